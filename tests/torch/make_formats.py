"""Makes tests/unit/data: small files that the runtime's readers are tested with, and what PyTorch and Pillow say of them.

Needs PyTorch, numpy, safetensors and Pillow; the build and the tests do not. Run from the repository root:
    python3 tests/torch/make_formats.py
"""
import json, os, pickle, struct, zlib
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split
from safetensors.torch import save_file
from PIL import Image

OUT = "tests/unit/data"
os.makedirs(OUT, exist_ok=True)


def path(name):
    return os.path.join(OUT, name)


# ---- random numbers: init.txt holds (seed, net, then first, last and checksum of each tensor) ----
def fnv(a):
    h = 0xCBF29CE484222325
    for b in np.ascontiguousarray(a).tobytes():
        h = ((h ^ b) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return h


NETS = [
    (0, lambda: nn.Sequential(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
                              nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10))),
    (42, lambda: nn.Sequential(nn.Conv2d(3, 8, 3, groups=1, bias=False), nn.BatchNorm2d(8), nn.PReLU(), nn.Conv2d(8, 16, (3, 2), groups=4),
                               nn.PReLU(16), nn.BatchNorm2d(16, affine=True), nn.Conv2d(16, 16, 3, groups=16), nn.Flatten(), nn.Linear(64, 7, bias=False))),
    (1234567890123, lambda: nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1000), nn.Conv2d(7, 5, 1), nn.BatchNorm1d(4), nn.LayerNorm(5))),
]


def make_random():
    lines = []
    for seed, make in NETS:
        torch.manual_seed(seed)
        net = make()
        lines.append(f"net {seed}")
        for mod_name, mod in net.named_modules():
            if list(mod.children()):
                continue
            own = dict(mod.named_parameters(recurse=False)) | dict(mod.named_buffers(recurse=False))
            for k, p in own.items():
                a = p.detach().numpy()
                kind, fan = "const", 0
                if isinstance(mod, (nn.Conv2d, nn.Linear)):
                    fan = int(np.prod(mod.weight.shape[1:]))
                    kind = "weight" if k == "weight" else "bias"
                dims = " ".join(str(d) for d in a.shape)
                first = float(a.reshape(-1)[0])
                lines.append(f"tensor {mod_name}.{k} {kind} {fan} {first!r} {fnv(a):016x} {a.ndim} {dims}".rstrip())
    for seed, n in [(0, 10), (7, 1000), (3, 1), (5, 60000)]:
        g = torch.Generator().manual_seed(seed)
        p = torch.randperm(n, generator=g).numpy()
        lines.append(f"perm {seed} {n} {fnv(p.astype('<i8')):016x} {p[0]}")
    for seed, n, shuffle in [(0, 60000, True), (11, 50, True), (2, 5, False)]:
        torch.manual_seed(seed)
        ds = TensorDataset(torch.arange(n))
        dl = DataLoader(ds, batch_size=1000, shuffle=shuffle)
        for epoch in range(3):
            ids = torch.cat([b[0] for b in dl]).numpy()
            lines.append(f"epoch {seed} {n} {int(shuffle)} {epoch} {fnv(ids.astype('<i8')):016x} {ids[0]}")
        lines.append(f"after {float(torch.rand(1)[0])!r}")
    torch.manual_seed(9)
    a, b = random_split(TensorDataset(torch.arange(103)), [0.9, 0.1])
    lines.append(f"split 9 {len(a)} {len(b)} {fnv(np.array(a.indices, dtype='<i8')):016x} {fnv(np.array(b.indices, dtype='<i8')):016x}")
    open(path("random.txt"), "w").write("\n".join(lines) + "\n")


# ---- weights: weights.txt holds file, tensor, element type, values' checksum, shape ----
def describe(lines, file, tensors):
    for name, t in tensors.items():
        whole = not t.dtype.is_floating_point
        a = t.detach().to(torch.int64 if whole else torch.float32).contiguous().numpy()
        lines.append(f"{file} {name} {'i64' if whole else 'f32'} {fnv(a):016x} {a.ndim} {' '.join(str(d) for d in a.shape)}".rstrip())


class Evil:
    def __reduce__(self):
        return os.system, ("echo this must never run",)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)


def make_weights():
    lines = []
    torch.manual_seed(4)
    mixed = {
        "f32": torch.randn(3, 4), "f16": torch.randn(5).half(), "bf16": torch.randn(2, 3).bfloat16(), "f64": torch.randn(4).double(),
        "special": torch.tensor([float("inf"), -float("inf"), 0.0, -0.0, 1e-40, 3e38]),
        "half_special": torch.tensor([float("inf"), 6e-8, 6.1e-5, -65504.0, 0.0]).half(),
        "i64": torch.tensor([1, -2, 2**62]), "i32": torch.tensor([7, -8], dtype=torch.int32), "u8": torch.tensor([0, 255], dtype=torch.uint8),
        "bool": torch.tensor([True, False]), "scalar": torch.tensor(2.5), "empty": torch.zeros(0, 3),
    }
    save_file(mixed, path("mixed.safetensors"), metadata={"classes": json.dumps(["a", 'b"', "ö"]), "note": "tab\there"})
    describe(lines, "mixed.safetensors", mixed)
    torch.save(mixed, path("mixed.pt"))
    describe(lines, "mixed.pt", mixed)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
    torch.save(net.state_dict(), path("net.pt"))
    save_file(net.state_dict(), path("net.safetensors"))
    describe(lines, "net.pt", net.state_dict())
    describe(lines, "net.safetensors", net.state_dict())
    opt = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    net(torch.randn(2, 1, 4, 4)).sum().backward()
    opt.step()
    torch.save({"epoch": 3, "model_state_dict": net.state_dict(), "optimizer_state_dict": opt.state_dict(), "loss": 0.5}, path("checkpoint.pt"))
    describe(lines, "checkpoint.pt", net.state_dict())
    base = torch.randn(6, 5)
    odd = {"transposed": base.t(), "slice": base[1:4, ::2], "column": base[:, 2], "expanded": torch.randn(3, 1).expand(3, 4),
           "parameter": nn.Parameter(torch.randn(2)), "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)}
    torch.save({"net": odd}, path("odd.pt"))
    describe(lines, "odd.pt", odd)
    torch.save(Net(), path("whole.pt"))
    torch.save({"w": torch.randn(1), "x": Evil()}, path("evil.pt"))
    torch.save(net.state_dict(), path("legacy.pt"), _use_new_zipfile_serialization=False)
    open(path("weights.txt"), "w").write("\n".join(lines) + "\n")


# ---- .npy: npy.txt holds file, type, checksum of the row-major float32 values, shape ----
def make_npy():
    lines = []
    rng = np.random.default_rng(1)
    arrays = {"f4": rng.standard_normal((2, 3, 4)).astype("<f4"), "f8": rng.standard_normal(5), "u1": rng.integers(0, 256, (2, 2), dtype="u1"),
              "i1": np.array([-1, 2], "i1"), "i2": np.array([-300, 2], "<i2"), "i4": np.array([[-70000]], "<i4"), "i8": np.array([5, -6], "<i8"),
              "bool": np.array([True, False]), "scalar": np.array(1.5, "f4"), "empty": np.zeros((0, 4), "f4"),
              "fortran": np.asfortranarray(rng.standard_normal((3, 4, 5)).astype("f4")), "vector": np.arange(3, dtype="f4")}
    for name, a in arrays.items():
        np.save(path(f"{name}.npy"), a)
        v = np.ascontiguousarray(a, dtype="<f4")
        lines.append(f"{name}.npy {a.dtype.name} {fnv(v):016x} {a.ndim} {' '.join(str(d) for d in a.shape)}".rstrip())
    for version in [(2, 0), (3, 0)]:
        name = f"version{version[0]}.npy"
        with open(path(name), "wb") as f:
            np.lib.format.write_array(f, arrays["f4"], version=version)
        lines.append(f"{name} float32 {fnv(arrays['f4']):016x} 3 2 3 4")
    np.save(path("bad_big.npy"), arrays["f4"].astype(">f4"))
    np.save(path("bad_complex.npy"), arrays["f8"].astype("c16"))
    np.save(path("bad_records.npy"), np.zeros(2, dtype=[("a", "f4"), ("b", "i4")]))
    open(path("npy.txt"), "w").write("\n".join(lines) + "\n")


# ---- pictures: images.txt holds file, channels, height, width (0 0: as it is), checksum of Pillow's pixels ----
def write_png(name, width, height, depth, colour, rows, interlace=False):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    data = b"".join(b"\0" + r for r in rows)
    with open(path(name), "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlace))))
        f.write(chunk(b"IDAT", zlib.compress(data, 9)) + chunk(b"IEND", b""))


def adam7(a):
    for y0, x0, dy, dx in [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]:
        part = a[y0::dy, x0::dx]
        if part.shape[1]:
            for row in part:
                yield row.tobytes()


def make_images():
    rng = np.random.default_rng(2)
    yy, xx = np.mgrid[0:21, 0:26]
    smooth = np.stack([xx * 9, yy * 11, (xx + yy) * 5], -1) + rng.integers(0, 20, (21, 26, 3))
    rgb = np.clip(smooth, 0, 255).astype("u1")
    alpha = (xx * 255 // 25).astype("u1")
    colour, grey = Image.fromarray(rgb), Image.fromarray(rgb[:, :, 0].copy())
    rgba = Image.fromarray(np.dstack([rgb, alpha]))
    palette = colour.quantize(16)
    colour.save(path("rgb.png"))
    grey.save(path("grey.png"))
    rgba.save(path("rgba.png"))
    rgba.convert("LA").save(path("la.png"))
    palette.save(path("palette.png"))
    palette.save(path("palette_clear.png"), transparency=3)
    colour.save(path("rgb_clear.png"), transparency=(0, 0, 10))
    grey.convert("1").save(path("bits.png"))
    wide = (rgb.astype(np.uint16) * 257) ^ 0x35
    write_png("rgb16.png", 26, 21, 16, 2, [r.astype(">u2").tobytes() for r in wide])
    write_png("grey4.png", 26, 21, 4, 0, [bytes((int(a) >> 4 << 4) | int(b) >> 4 for a, b in zip(r[::2], r[1::2])) for r in rgb[:, :, 0]])
    write_png("grey16.png", 26, 21, 16, 0, [r.astype(">u2").tobytes() for r in wide[:, :, 0]])
    write_png("interlaced.png", 26, 21, 8, 2, adam7(rgb), interlace=True)
    colour.save(path("444.jpg"), quality=90, subsampling=0)
    colour.save(path("420.jpg"), quality=85, subsampling=2)
    colour.save(path("422.jpg"), quality=85, subsampling=1)
    colour.save(path("progressive.jpg"), quality=80, progressive=True)
    grey.save(path("grey.jpg"), quality=80)
    colour.convert("CMYK").save(path("cmyk.jpg"), quality=95)
    colour.save(path("raw.ppm"))
    grey.save(path("raw.pgm"))
    small = rgb[:4, :5]
    open(path("plain.ppm"), "w").write("P3\n# a comment\n5 4 # another\n255\n" + "\n".join(" ".join(str(v) for v in r.reshape(-1)) for r in small) + "\n")
    open(path("plain.pgm"), "w").write("P2 5 4 100\n" + " ".join(str(int(v) * 100 // 255) for v in small[:, :, 0].reshape(-1)))
    open(path("max100.pgm"), "wb").write(b"P5\n5 4\n100\n" + bytes(int(v) * 100 // 255 for v in small[:, :, 0].reshape(-1)))
    names = ["rgb.png", "grey.png", "rgba.png", "la.png", "palette.png", "palette_clear.png", "rgb_clear.png", "bits.png", "rgb16.png", "grey4.png",
             "grey16.png", "interlaced.png", "444.jpg", "420.jpg", "422.jpg", "progressive.jpg", "grey.jpg", "cmyk.jpg", "raw.ppm", "raw.pgm", "plain.ppm", "plain.pgm", "max100.pgm"]
    lines = []
    for name in names:
        for c, mode in [(1, "L"), (3, "RGB")]:
            sizes = [(0, 0)] + ([(7, 9), (21, 5), (40, 13), (64, 64), (21, 27), (1, 1)] if name in ("rgb.png", "grey.png") else [])
            for h, w in sizes:
                picture = Image.open(path(name))
                if picture.mode == "I;16":   # Pillow clips at 255 here, which leaves white; 16 bits of colour keep their high byte, and so do these
                    picture = Image.fromarray((np.asarray(picture) >> 8).astype("u1"))
                picture = picture.convert(mode)
                if h:
                    picture = picture.resize((w, h), Image.BILINEAR)
                lines.append(f"{name} {c} {h} {w} {fnv(np.asarray(picture)):016x}")
    open(path("images.txt"), "w").write("\n".join(lines) + "\n")
    for part, names in [("train", ["cat", "dog"]), ("test", ["dog"])]:
        for i, label in enumerate(names):
            os.makedirs(path(f"pictures/{part}/{label}"), exist_ok=True)
            for k in range(3 - i):
                Image.fromarray(np.full((8, 8 + k, 3), 40 * k + 10 * i + (5 if part == "test" else 0), "u1")).save(path(f"pictures/{part}/{label}/{k}.png"))


# ---- CIFAR: the same pictures as binary files and as pickles of several ages ----
def python2_batch(data, labels, key):
    """What Python 2 wrote: protocol 2 with byte strings."""
    def text(s):
        return b"U" + bytes([len(s)]) + s.encode()

    raw = data.tobytes()
    array = (b"cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85U\x01b\x87Rq\x03(K\x01" + b"K" + bytes([data.shape[0]]) + b"M\x00\x0c\x86"
             + b"cnumpy\ndtype\nq\x04U\x02u1K\x00K\x01\x87Rq\x05(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
             + b"T" + struct.pack("<I", len(raw)) + raw + b"tb")
    return (b"\x80\x02}q\x00(" + text("batch_label") + text("batch 1") + text("data") + array + text(key)
            + b"](" + b"".join(b"K" + bytes([v]) for v in labels) + b"eu.")


def make_cifar():
    rng = np.random.default_rng(3)
    for kind, train, test, key, names, classes in [("cifar-10-batches", [f"data_batch_{i}" for i in range(1, 6)], "test_batch", "labels", "batches.meta", 10),
                                                   ("cifar-100", ["train"], "test", "fine_labels", "meta", 100)]:
        py, binary = path(kind + ("-py" if classes == 10 else "-python")), path(kind + ("-bin" if classes == 10 else "-binary"))
        os.makedirs(py, exist_ok=True)
        os.makedirs(binary, exist_ok=True)
        label_names = [f"class{i}" for i in range(classes)]
        for i, name in enumerate(train + [test]):
            n = 2
            data = (rng.integers(0, 256, (n, 96)).repeat(32, axis=1)).astype("u1")
            labels = [int(v) for v in rng.integers(0, classes, n)]
            batch = {"batch_label": "x", "labels" if classes == 10 else "fine_labels": labels, "coarse_labels": [0] * n, "data": data, "filenames": ["a"] * n}
            protocol = [2, 4, 5, 3, 2][i % 5]
            if i == 3:
                batch[key] = [np.int64(v) for v in labels]
            with open(os.path.join(py, name), "wb") as f:
                f.write(python2_batch(data, labels, key) if i == 0 else pickle.dumps(batch, protocol=protocol))
            with open(os.path.join(binary, name + ".bin"), "wb") as f:
                for v, d in zip(labels, data):
                    f.write((bytes([v]) if classes == 10 else bytes([3, v])) + d.tobytes())
        pickle.dump({"label_names" if classes == 10 else "fine_label_names": label_names}, open(os.path.join(py, names), "wb"), protocol=2)
        open(os.path.join(binary, "batches.meta.txt" if classes == 10 else "fine_label_names.txt"), "w").write("\n".join(label_names) + "\n")


# ---- normalisation: every byte through ToTensor and Normalize ----
def make_norm():
    lines = []
    for mean, std in [(0.1307, 0.3081), (0.5, 0.5), (0.4914, 0.2470), (0.485, 0.229)]:
        v = torch.arange(256, dtype=torch.uint8).to(torch.float32).div(255)
        v.sub_(torch.tensor(mean)).div_(torch.tensor(std))
        lines.append(f"{mean} {std} {fnv(v.numpy()):016x}")
    open(path("norm.txt"), "w").write("\n".join(lines) + "\n")


if __name__ == "__main__":
    make_random()
    make_weights()
    make_npy()
    make_images()
    make_cifar()
    make_norm()

"""Makes tests/unit/data: small files that the runtime's readers are tested with, and what PyTorch and Pillow say of them.

Needs PyTorch, numpy, safetensors and Pillow; the build and the tests do not. Run from the repository root:
    python3 tests/torch/make_formats.py
"""
import gzip, io, json, os, pickle, struct, sys, zipfile
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, RandomSampler, TensorDataset, random_split
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


if __name__ == "__main__":
    make_random()

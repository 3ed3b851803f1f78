"""The results that are kept: a JSON file of all rows, into which a run puts those it measured, and the table made from it.

A row is {"net", "kind": infer | train, "batch", "threads", "precision", "macs", "when", "who": {name: {"best", "median", "error"}}},
times in seconds of a call or a step; error against double precision, root mean square over that of the values."""
import json
import math

from nets import NETS

TITLES = {n.name: n.title for n in NETS}
ORDER = {n.name: i for i, n in enumerate(NETS)}


def key_of(row):
    return "/".join(str(row[k]) for k in ["net", "kind", "batch", "threads", "precision"])


def load(path):
    try:
        with open(path) as f:
            return json.load(f)
    except FileNotFoundError:
        return {"machine": {}, "rows": {}, "programs": {}}


def save(path, results):
    with open(path, "w") as f:
        json.dump(results, f, indent=1, sort_keys=True)
        f.write("\n")


def best_peer(row):
    """(name, seconds) of the quickest but cnnc; None when nobody else was there."""
    peers = [(t["best"], name) for name, t in row["who"].items() if name != "cnnc"]
    return (min(peers)[1], min(peers)[0]) if peers else None


def ratio_of(row):
    peer = best_peer(row)
    return peer[1] / row["who"]["cnnc"]["best"] if peer else math.nan


def wanted_of(row):
    """The ratio to reach; None: no more than reported."""
    if row["threads"] != 1:
        return None
    net = NETS[ORDER[row["net"]]]
    if row["precision"] == "bf16":
        return 1.3 if row["net"] in ("lenet", "conv20", "simple_cnn", "tinyvgg", "cifar_vgg", "resnet18", "vgg16") else 1.0
    if row["kind"] == "train":
        return net.wanted[2]
    return net.wanted[0 if row["batch"] == 1 else 1]


def milliseconds(seconds):
    return f"{1e3 * seconds:.4g}"


def gflops(row):
    """Direct convolution's operations a second; a training step does three times those of inference."""
    passes = 3 if row["kind"] == "train" else 1
    return 2e-9 * row["macs"] * row["batch"] * passes / row["who"]["cnnc"]["best"]


def text_of(row):
    """A row as it is shown when it has been measured."""
    what = "a training step" if row["kind"] == "train" else row["precision"] + " inference"
    lines = [f"{TITLES[row['net']]}, {what}, batch {row['batch']}, {row['threads']} thread{'s' * (row['threads'] > 1)}"]
    for name, t in sorted(row["who"].items(), key=lambda item: item[1]["best"]):
        error = f"   error {t['error']:.1e}" if t.get("error") is not None else ""
        lines.append(f"  {name:<16} {milliseconds(t['best']):>9} ms   median {milliseconds(t['median']):>9} ms{error}")
    peer = best_peer(row)
    if peer:
        wanted = wanted_of(row)
        lines.append(f"  {ratio_of(row):.2f} times as fast as {peer[0]}" + (f", wanted {wanted}" if wanted else ""))
    return "\n".join(lines)


# ---- Markdown ----

def cell(row, name):
    return milliseconds(row["who"][name]["best"]) if name in row["who"] else ""


def markdown_table(rows, peak):
    present = {name for row in rows for name in row["who"]}
    peers = [p for p in ["ONNX Runtime", "OpenVINO", "ncnn", "PyTorch", "channels_last", "torch.compile", "JAX"] if p in present]
    yield "| net | batch | cnnc | median | GFLOP/s | of peak | " + " | ".join(peers) + " | ratio | aim |"
    yield "|---" * (8 + len(peers)) + "|"
    for row in rows:
        ours, rate, wanted = row["who"]["cnnc"], gflops(row), wanted_of(row)
        yield (f"| {TITLES[row['net']]} | {row['batch']} | **{milliseconds(ours['best'])}** | {milliseconds(ours['median'])} | {rate:.0f} | "
               f"{100e9 * rate / (peak * row['threads']):.0f} % | " + " | ".join(cell(row, p) for p in peers) +
               f" | **{ratio_of(row):.2f}** | {wanted or ''} |")


ERRORS = [("outputs, batch 1", "infer", "f32", 1), ("batch 32", "infer", "f32", 32), ("gradients", "train", "f32", None),
          ("bfloat16, batch 1", "infer", "bf16", 1), ("batch 32", "infer", "bf16", 32)]


def error_cell(rows, kind, precision, batch):
    """cnnc's error, and how many times that of who sums directly in the same precision."""
    for row in rows:
        if (row["kind"], row["precision"]) == (kind, precision) and batch in (None, row["batch"]):
            direct = "OpenVINO" if precision == "bf16" else "PyTorch"
            ours, theirs = (row["who"].get(name, {}).get("error") for name in ["cnnc", direct])
            return f"{ours:.1e}" + (f" ({ours / theirs:.1f})" if theirs else "")
    return ""


def error_table(rows):
    yield "| net | " + " | ".join(title for title, *_ in ERRORS) + " |"
    yield "|---" * (1 + len(ERRORS)) + "|"
    for name, title in TITLES.items():
        of_net = [r for r in rows if r["net"] == name]
        if of_net:
            yield f"| {title} | " + " | ".join(error_cell(of_net, *what) for _, *what in ERRORS) + " |"


def program_value(about):
    if "ratio" in about:
        return f"{about['ratio']:.2f}", ""
    if "bytes" in about:
        return f"{about['bytes'] / 1000:.0f} KB", ""
    return tuple(f"{1e3 * about[k]:.1f} ms" if about[k] < 1 else f"{about[k]:.2f} s" for k in ["best", "median"])


def program_table(programs):
    yield "| what | best | median | aim |"
    yield "|---|---|---|---|"
    for what, about in programs.items():
        best, median = program_value(about)
        yield f"| {what} | {best} | {median} | {about['wanted']} |"


SECTIONS = [("Inference, float32, one thread", "infer", 1, "f32"), ("A training step, float32, one thread", "train", 1, "f32"),
            ("Inference, bfloat16, one thread", "infer", 1, "bf16"), ("A training step, float32, two threads", "train", 2, "f32")]


def markdown(results):
    machine = results["machine"]
    peak = machine["peak"]
    rows = sorted(results["rows"].values(), key=lambda r: (ORDER[r["net"]], r["batch"]))
    yield f"{machine['cpu']}, {machine['cores']} cores seen; " + ", ".join(machine["versions"]) + "."
    yield ""
    yield (f"Peak of one core: {peak / 1e9:.1f} GFLOP/s of float32 multiply-adds. GFLOP/s count what a direct convolution does;"
           " Winograd's does less, so that its share of the peak can pass 100 %.")
    yield ("Times are the least of all turns, in milliseconds of a call; ratio: the quickest peer's over cnnc's.")
    for title, kind, threads, precision in SECTIONS:
        chosen = [r for r in rows if (r["kind"], r["threads"], r["precision"]) == (kind, threads, precision)]
        if chosen:
            yield from ["", f"**{title}**", "", *markdown_table(chosen, peak)]
    yield from ["", "**Errors** against double precision, root mean square over that of the values; in brackets how many times that of"
                " PyTorch, which sums directly (bfloat16: of OpenVINO)", ""]
    yield from error_table([r for r in rows if r["threads"] == 1])
    if results["programs"]:
        yield from ["", "**Programs**", "", *program_table(results["programs"])]

"""Memory of a training step: what cnnc plans and really takes, with and without --recompute, beside PyTorch's tensors.

    python3 tests/bench/memory.py [BUILD] [--net lenet,resnet18]

The nets are those that are trained in the table of run.py, with their batch sizes. cnnc: the report's figure, and the peak of the
trainer's whole process while it times steps on random samples, its code included. PyTorch: the most bytes of tensors that its
allocator held at once during two steps (parameters, gradients, optimizer, values, what its operations take for themselves through
that allocator), in the smaller of its two layouts; the process around them is several times that and not counted. Each net in a
process of its own. Rows are kept in tests/bench/results/ as MACHINE.memory.json, and the table beside it.
"""
import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, HERE)

import machine                                 # noqa: E402
from nets import EXAMPLES, NETS, nn, torch     # noqa: E402

STEPS = 2
MIB = 2.0 ** 20


# ---- PyTorch, in a process of its own ----

def torch_steps(net, layout):
    torch.manual_seed(0)
    module = net.build().train().to(memory_format=layout)
    x = torch.randn(net.train_batch, *net.shape).to(memory_format=layout)
    parameters = module.parameters()
    optimizer = (torch.optim.Adam(parameters, lr=1e-3, fused=True) if net.optimizer == "Adam" else
                 torch.optim.SGD(parameters, lr=1e-3, momentum=0.9, fused=True))
    labels = torch.zeros(net.train_batch, dtype=torch.int64)
    for _ in range(STEPS):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(x), labels).backward()
        optimizer.step()


def torch_peak(net, layout):
    """Bytes: the profiler's events of the allocator tell how much is held after each."""
    from torch.profiler import ProfilerActivity, profile
    torch.set_num_threads(1)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as told:
        torch_steps(net, layout)
    with tempfile.NamedTemporaryFile(suffix=".json") as f:
        told.export_chrome_trace(f.name)
        events = json.load(open(f.name))["traceEvents"]
    return max(e["args"]["Total Allocated"] for e in events if e.get("name") == "[memory]")


def torch_row(name):
    net = next(n for n in NETS if n.name == name)
    print(json.dumps(min(torch_peak(net, layout) for layout in (torch.contiguous_format, torch.channels_last))))


# ---- cnnc ----

def write_net(net, folder):
    with open(os.path.join(EXAMPLES, net.name + ".cnn")) as f:
        text = re.sub(r"(?s)^train \{.*?^\}\n", "", f.read(), flags=re.M)
    optimizer = "Adam(lr=0.001)" if net.optimizer == "Adam" else "SGD(lr=0.001, momentum=0.9)"
    path = os.path.join(folder, net.name + ".cnn")
    with open(path, "w") as f:
        f.write(f'{text}\ntrain {{\n data = Npy("x.npy", "y.npy")\n optimizer = {optimizer}\n batch_size = {net.train_batch}\n}}\n')
    return path


def peak_of(command):
    """Bytes the process held at most: as the kernel tells while it runs, for what it tells afterwards counts this process too."""
    child, peak = subprocess.Popen(command, stdout=subprocess.DEVNULL), 0
    while child.poll() is None:
        with open(f"/proc/{child.pid}/status") as f:
            told = re.search(r"VmHWM:\s+(\d+)", f.read())
        peak = int(told.group(1)) * 1024 if told else peak
        time.sleep(0.01)
    if child.returncode:
        raise RuntimeError(" ".join(command))
    return peak


def cnnc_row(cnnc, model, net, options, folder):
    told = subprocess.run([cnnc, "report", model, "-q", "--batch", str(net.train_batch), *options], check=True, capture_output=True, text=True).stdout
    size, unit = re.search(r"(?m)^  training +([\d.]+) (\w+)", told).groups()
    trainer = os.path.join(folder, net.name + "-trainer")
    subprocess.run([cnnc, "build", model, "--trainer", "-q", "-o", trainer, *options], check=True)
    peak = peak_of([trainer, "--bench", "--threads", "1"])
    os.remove(trainer)
    return {"planned": float(size) * {"KiB": 2.0 ** 10, "MiB": MIB, "GiB": 2.0 ** 30}[unit], "peak": peak}


def measure(cnnc, net):
    with tempfile.TemporaryDirectory() as folder:
        model = write_net(net, folder)
        row = {"batch": net.train_batch, "kept": cnnc_row(cnnc, model, net, [], folder), "again": cnnc_row(cnnc, model, net, ["--recompute"], folder)}
    told = subprocess.run([sys.executable, __file__, "--torch", net.name], check=True, capture_output=True, text=True).stdout
    return {**row, "torch": json.loads(told.splitlines()[-1])}


def table(rows):
    lines = ["", "**Memory of a training step**, MiB; one thread, float32. PyTorch: the peak of its tensors; cnnc: the report's figure, and the whole process", "",
             "| net | batch | PyTorch | cnnc, report | process | `--recompute`, report | process |",
             "|---|---|---|---|---|---|---|"]
    for net in NETS:
        if net.name in rows:
            r = rows[net.name]
            cells = [r["torch"] / MIB, r["kept"]["planned"] / MIB, r["kept"]["peak"] / MIB, r["again"]["planned"] / MIB, r["again"]["peak"] / MIB]
            lines.append(f"| {net.title} | {r['batch']} | " + " | ".join(f"{c:.1f}" for c in cells) + " |")
    return "\n".join(lines) + "\n"


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("build", nargs="?", default=os.path.join(ROOT, "build"), help="the build folder")
    p.add_argument("--net", help="names, with commas (all)")
    p.add_argument("--machine", default=machine.stem(), help="name of the results (the CPU's)")
    p.add_argument("--torch", help=argparse.SUPPRESS)
    o = p.parse_args()
    if o.torch:
        return torch_row(o.torch)
    path = os.path.join(HERE, "results", o.machine + ".memory.json")
    rows = json.load(open(path)) if os.path.exists(path) else {}
    for net in NETS:
        if net.train_batch and (not o.net or net.name in o.net.split(",")):
            rows[net.name] = measure(os.path.join(os.path.abspath(o.build), "cnnc"), net)
            with open(path, "w") as f:
                json.dump(rows, f, indent=1, sort_keys=True)
                f.write("\n")
            with open(path.replace(".json", ".md"), "w") as f:
                f.write(table(rows))
    print(table(rows))


main()

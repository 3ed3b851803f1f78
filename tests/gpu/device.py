"""Times on a GPU: cnnc beside PyTorch, each as its users run it.

    python3 tests/gpu/device.py CNNC FOLDER [--net lenet,resnet18] [--seconds 2]

Inference is a call from the host's pinned memory and back; a training step takes its batch from there and reads its loss one step late.
PyTorch runs as it is (eager), through torch.compile, and recorded as a CUDA graph; in float32, and where it may in tf32 and bf16
(autocast). Contenders take turns, medians of those turns are shown. `kernels`: the device's own time, of cnnc's kernels one by one and
of PyTorch's graph between two events; `of peak`: the net's multiply-adds in that time, of what the GPU can do in that precision. The
table goes to tests/bench/results/gpu-NAME.md. Without PyTorch cnnc stands alone.
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests", "bench"))

try:
    import torch
    from torch import nn
    import nets
except ImportError:
    torch = None

BATCHES = [1, 32, 256]
TRAIN_BATCH = {"lenet": 64, "tinyvgg": 32, "cifar_vgg": 64, "resnet18": 64, "mobilenet": 64}
TITLES = {"lenet": "LeNet-5", "tinyvgg": "TinyVGG", "cifar_vgg": "CIFAR VGG", "resnet18": "ResNet-18", "mobilenet": "MobileNetV1"}
PRECISIONS = ["f32", "tf32", "bf16"]


# ---- cnnc ----

def cnnc_json(cnnc, net, precision, *options):
    """What `cnnc bench --json` says, or None when it does not do that."""
    command = [cnnc, "bench", net, "-q", "--device", "cuda", "--json", *options]
    if precision != "f32":
        command += ["--precision", precision]
    done = subprocess.run(command, capture_output=True, text=True)
    return json.loads(done.stdout) if done.returncode == 0 else None


def cnnc_infer(cnnc, net, precision, batch):
    rows = cnnc_json(cnnc, net, precision, "--batch", str(batch))
    row = rows and [r for r in rows if r["batch"] == batch][0]
    return row and (row["median_ms"], row["kernels_ms"])


def cnnc_train(cnnc, net, precision, batch):
    row = cnnc_json(cnnc, net, precision, "--train", "--batch", str(batch))
    return row and (row["ms"], row["kernels_ms"])


# ---- PyTorch ----

def resnet18():
    """As torchvision's, which need not be there."""
    class Block(nn.Module):
        def __init__(self, c, k, stride):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(c, k, 3, stride, 1, bias=False), nn.BatchNorm2d(k), nn.ReLU(True),
                                      nn.Conv2d(k, k, 3, 1, 1, bias=False), nn.BatchNorm2d(k))
            self.short = nn.Sequential(nn.Conv2d(c, k, 1, stride, bias=False), nn.BatchNorm2d(k)) if stride > 1 else nn.Identity()
            self.relu = nn.ReLU(True)

        def forward(self, x):
            return self.relu(self.body(x) + self.short(x))

    layers, c = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(True), nn.MaxPool2d(3, 2, 1)], 64
    for k, stride in [(64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)]:
        layers.append(Block(c, k, stride))
        c = k
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000))


class Contender:
    """A module in one precision; `call` is a whole call, `kernels` the device's part, None when it is not one graph."""

    def __init__(self, name, shape, precision, how, batch, training):
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision != "f32"
        torch.backends.cudnn.benchmark = True
        self.precision, self.training = precision, training
        build = resnet18 if name == "resnet18" else getattr(nets, name)
        self.module = build().cuda().to(memory_format=torch.channels_last).train(training)
        self.x_host = torch.randn(batch, *shape).pin_memory()
        self.x = self.x_host.cuda().to(memory_format=torch.channels_last)
        self.labels = torch.randint(0, 10, (batch,)).cuda()
        if training:
            self.optimizer = torch.optim.SGD(self.module.parameters(), lr=1e-5, momentum=0.9, foreach=True)
        self.step = torch.compile(self.body, dynamic=False) if how == "compile" else self.body
        self.graph, self.kernels = None, None
        for _ in range(3):
            self.out = self.step()
        torch.cuda.synchronize()
        self.host = torch.empty(self.out.shape, dtype=self.out.dtype).pin_memory()
        if how == "graph":
            self.record()

    def body(self):
        with torch.autocast("cuda", torch.bfloat16, enabled=self.precision == "bf16"), torch.set_grad_enabled(self.training):
            out = self.module(self.x)
            if not self.training:
                return out
            loss = nn.functional.cross_entropy(out, self.labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def record(self):
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for _ in range(3):
                self.body()
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.out = self.body()

    def once(self):
        self.x.copy_(self.x_host, non_blocking=True)
        if self.graph:
            self.graph.replay()
        else:
            self.out = self.step()
        self.host.copy_(self.out, non_blocking=True)

    def call(self, seconds):
        """Milliseconds of a call: inference waits for each, training for the step before."""
        times, start = [], time.perf_counter()
        before = torch.cuda.Event()
        while len(times) < 5 or time.perf_counter() - start < seconds:
            at, now = time.perf_counter(), torch.cuda.Event()
            self.once()
            now.record()
            (before if self.training else now).synchronize()
            before = now
            times.append(1e3 * (time.perf_counter() - at))
        torch.cuda.synchronize()
        return statistics.median(times)

    def graph_ms(self):
        if not self.graph:
            return None
        best = 1e9
        for _ in range(5):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            for _ in range(20):
                self.graph.replay()
            end.record()
            end.synchronize()
            best = min(best, start.elapsed_time(end) / 20)
        return best


def torch_rows(name, shape, precision, batch, training, seconds):
    for how, title in [("eager", "PyTorch"), ("compile", "torch.compile"), ("graph", "PyTorch, CUDA graph")]:
        try:
            c = Contender(name, shape, precision, how, batch, training)
            yield title, c.call(seconds), c.graph_ms()
        except Exception as e:      # out of memory, or a compiler that is not there: the row says so
            yield f"{title}: {str(e).splitlines()[0][:60]}", None, None
        torch._dynamo.reset()
        torch.cuda.empty_cache()


# ---- the table ----

def peaks():
    """Multiply-adds (as 2 operations) a second by precision, from clock and multiprocessors; dense tensor cores."""
    p = torch.cuda.get_device_properties(0)
    mhz = subprocess.run(["nvidia-smi", "--query-gpu=clocks.max.sm", "--format=csv,noheader,nounits"], capture_output=True, text=True).stdout
    clock = 1e6 * float(mhz.splitlines()[0])
    lanes = 64 if (p.major, p.minor) == (8, 0) else 128
    tensor = {8: 1024, 9: 2048}.get(p.major, 4096)      # tf32 operations of a multiprocessor a clock
    rates = {"f32": 2 * lanes, "tf32": tensor, "bf16": 2 * tensor}
    return {k: v * clock * p.multi_processor_count for k, v in rates.items()}


def macs_of(cnnc, net):
    report = json.loads(subprocess.run([cnnc, "report", net, "-q", "--format", "json"], capture_output=True, text=True, check=True).stdout)
    return report["totals"]["macs"], report["input"]


class Table:
    def __init__(self, peak):
        self.peak, self.lines = peak, ["| what | who | precision | median | kernels | of peak | cnnc is |", "|---|---|---|---|---|---|---|"]

    def add(self, what, who, precision, ms, kernels, flops, cnnc_ms):
        peak = f"{100 * flops / (1e-3 * kernels) / self.peak[precision]:.1f} %" if kernels and self.peak else ""
        times = f"{ms / cnnc_ms:.2f} times as fast" if ms and cnnc_ms and who != "cnnc" else ""
        line = f"| {what} | {who} | {precision} | {ms and f'{ms:.4f} ms' or 'not yet'} | {kernels and f'{kernels:.4f} ms' or ''} | {peak} | {times} |"
        self.lines.append(line)
        print(line, flush=True)


def measure(table, o, name, net, batch, training):
    macs, shape = macs_of(o.cnnc, net)
    flops = 2 * macs * batch * (3 if training else 1)
    what = f"{TITLES[name]}, {'a training step' if training else 'inference'}, batch {batch}"
    for precision in PRECISIONS:
        got = (cnnc_train if training else cnnc_infer)(o.cnnc, net, precision, batch)
        table.add(what, "cnnc", precision, *(got or (None, None)), flops, None)
        for row in torch_rows(name, shape, precision, batch, training, o.seconds) if torch and torch.cuda.is_available() else []:
            table.add(what, row[0], precision, row[1], row[2], flops, got and got[0])


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("cnnc")
    p.add_argument("folder", help="what tests/gpu/carry.sh made")
    p.add_argument("--net", default=",".join(TITLES))
    p.add_argument("--batch", default=",".join(map(str, BATCHES)), help="of inference")
    p.add_argument("--seconds", type=float, default=1, help="of each of PyTorch's rows")
    o = p.parse_args()
    version = subprocess.run([o.cnnc, "--version"], capture_output=True, text=True, check=True).stdout
    gpu = re.search(r"^GPU: (.*) \(sm_", version, re.M).group(1)
    has_torch = torch and torch.cuda.is_available()
    table = Table(peaks() if has_torch else None)
    for name in o.net.split(","):
        net = os.path.join(o.folder, "cases", name, "net.cnn")
        for batch in map(int, o.batch.split(",")):
            measure(table, o, name, net, batch, False)
        measure(table, o, name, net, TRAIN_BATCH[name], True)
    head = f"{gpu}. {version.splitlines()[0]}, " + (f"PyTorch {torch.__version__}" if has_torch else "no PyTorch") + f". {version.splitlines()[2]}."
    path = os.path.join(ROOT, "tests", "bench", "results", "gpu-" + re.sub(r"[^a-z0-9]+", "-", gpu.lower()).strip("-") + ".md")
    with open(path, "w") as f:
        f.write(head + "\n\n" + "\n".join(table.lines) + "\n")
    print(path)


if __name__ == "__main__":
    main()

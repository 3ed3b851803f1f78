"""Measures what the project promises, on this machine, beside PyTorch and ONNX Runtime where this Python has them.

    python3 tests/bench/run.py [BUILD] [--quick]        BUILD: the build folder (build)

Compared nets take turns: a share of a second each, round after round, so that a busy machine slows all of them alike. The table has
the best and the median of the rounds; ratios are of medians. The table is printed and kept in tests/bench/results/, named after the
CPU. Nothing fails on a time: machines differ and are shared.
"""
import ctypes
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
WORDS = [a for a in sys.argv[1:] if not a.startswith("-")]
CNNC = os.path.join(os.path.abspath(WORDS[0] if WORDS else os.path.join(ROOT, "build")), "cnnc")
QUICK = "--quick" in sys.argv
ROUNDS, SHARE = (5, 0.1) if QUICK else (15, 0.3)
MISSING = []

try:
    import torch
except ImportError:
    torch = None
    MISSING.append("PyTorch")
try:
    import numpy
    import onnx
    import onnxruntime
except ImportError:
    onnxruntime = None
    MISSING.append("ONNX Runtime (with onnx and numpy)")


def cnnc(*args):
    return subprocess.run([CNNC, *args], check=True, capture_output=True, text=True).stdout


def example(name):
    return os.path.join(ROOT, "examples", name + ".cnn")


# ---- the contenders: each a function of nothing that gives the seconds of one call, from a share of a second of calls ----

def repeated(f):
    """A function of n that takes n calls' time per call; here in Python's own loop."""
    def timed(n):
        start = time.perf_counter()
        for _ in range(n):
            f()
        return (time.perf_counter() - start) / n
    return timed


def contender(timed):
    n = 1
    while timed(n) * n < SHARE / 20:
        n *= 2
    n = max(1, int(SHARE / timed(n)))
    return lambda: timed(n)


class Calls:
    """calls.c, compiled for this machine."""

    def __init__(self, folder):
        path = os.path.join(folder, "calls.so")
        subprocess.run(["cc", "-O2", "-march=native", "-shared", "-fPIC", os.path.join(HERE, "calls.c"), "-o", path], check=True)
        self.lib = ctypes.CDLL(path)
        self.lib.time_calls.restype = self.lib.time_peak.restype = self.lib.peak_flops.restype = ctypes.c_double
        self.lib.time_peak.argtypes = [ctypes.c_int64, ctypes.c_void_p]
        self.lib.peak_flops.argtypes = [ctypes.c_int64]

    def peak(self):
        """Operations a second of float32 multiply-adds on one core, the best of some rounds."""
        sink, n = ctypes.c_float(), 200_000   # short, so that some rounds are undisturbed
        return self.lib.peak_flops(n) / min(self.lib.time_peak(n, ctypes.byref(sink)) for _ in range(500))

    def net(self, folder, model, batch, *options):
        """The net as a shared library, one thread, called from C."""
        stem = os.path.join(folder, "lib" + re.sub(r"\W", "_", os.path.basename(model)) + str(batch))
        cnnc("build", model, "-q", "--batch", str(batch), "--emit", "shared", "--name", "net", "-o", stem + ".so", *options)
        lib = ctypes.CDLL(stem + ".so")
        lib.net_workspace_size.restype = ctypes.c_size_t
        sizes = []
        for shape, rank in [(lib.net_input_shape, lib.net_input_rank()), (lib.net_output_shape, lib.net_output_rank())]:
            shape.restype = ctypes.POINTER(ctypes.c_int64)
            size = 1
            for d in shape()[:rank]:
                size *= d
            sizes.append(size)
        x, y = (ctypes.c_float * sizes[0])(*[(i % 251) / 251 for i in range(sizes[0])]), (ctypes.c_float * sizes[1])()
        space = ctypes.create_string_buffer(lib.net_workspace_size() + 64)
        aligned = ctypes.c_void_p(ctypes.addressof(space) + -ctypes.addressof(space) % 64)

        def timed(n):
            seconds = self.lib.time_calls(lib.net_infer, x, y, aligned, ctypes.c_int(n))
            if seconds < 0:
                raise RuntimeError("infer failed")
            return seconds
        timed.keep = (lib, space)
        return contender(timed)


class Onnx:
    """A net as ONNX, written node by node with random weights: exporters need more packages than the runtime."""

    def __init__(self, input_shape):
        self.shape, self.weights, self.nodes, self.random = input_shape, [], [], numpy.random.default_rng(0)

    def node(self, op, inputs, *shapes, **attributes):
        names = []
        for shape in shapes:
            fan = shape[0] if len(shape) < 2 else int(numpy.prod(shape[1:]))
            names.append(f"w{len(self.weights)}")
            value = self.random.normal(0, fan ** -0.5, shape).astype("float32")
            self.weights.append(onnx.numpy_helper.from_array(value, names[-1]))
        out = f"v{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(op, [*inputs, *names], [out], **attributes))
        return out

    def conv(self, x, c, k, r, stride=1, pad=0, relu=True):
        y = self.node("Conv", [x], (k, c, r, r), (k,), pads=[pad] * 4, strides=[stride] * 2)
        return self.node("Relu", [y]) if relu else y

    def linear(self, x, c, k, relu=False):
        y = self.node("Gemm", [x], (k, c), (k,), transB=1)
        return self.node("Relu", [y]) if relu else y

    def session(self, last, out_shape, threads=1):
        """A contender with input and output bound once."""
        helper, kind = onnx.helper, onnx.TensorProto.FLOAT
        graph = helper.make_graph(self.nodes, "net", [helper.make_tensor_value_info("x", kind, self.shape)],
                                  [helper.make_tensor_value_info(last, kind, out_shape)], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        binding, array = session.io_binding(), self.random.normal(0, 1, self.shape).astype("float32")
        binding.bind_ortvalue_input("x", onnxruntime.OrtValue.ortvalue_from_numpy(array))
        binding.bind_ortvalue_output(last, onnxruntime.OrtValue.ortvalue_from_numpy(numpy.zeros(out_shape, "float32")))
        return contender(repeated(lambda: session.run_with_iobinding(binding)))


def onnx_lenet(batch):
    net = Onnx([batch, 1, 28, 28])
    y = net.node("MaxPool", [net.conv("x", 1, 6, 5, pad=2)], kernel_shape=[2, 2], strides=[2, 2])
    y = net.node("MaxPool", [net.conv(y, 6, 16, 5)], kernel_shape=[2, 2], strides=[2, 2])
    y = net.node("Flatten", [y])
    y = net.linear(net.linear(y, 400, 120, True), 120, 84, True)
    return net.session(net.linear(y, 84, 10), [batch, 10])


def onnx_conv():
    net = Onnx([1, 64, 56, 56])
    return net.session(net.conv("x", 64, 64, 3, pad=1, relu=False), [1, 64, 56, 56])


def onnx_resnet18(threads):
    """Batch norms already folded into the convolutions."""
    net = Onnx([1, 3, 224, 224])
    y = net.conv("x", 3, 64, 7, 2, 3)
    y = net.node("MaxPool", [y], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    c = 64
    for k in [64, 64, 128, 128, 256, 256, 512, 512]:
        stride = 1 if k == c else 2
        same = y if k == c else net.conv(y, c, k, 1, 2, relu=False)
        y = net.conv(net.conv(y, c, k, 3, stride, 1), k, k, 3, 1, 1, relu=False)
        y, c = net.node("Relu", [net.node("Add", [y, same])]), k
    y = net.node("Flatten", [net.node("GlobalAveragePool", [y])])
    return net.session(net.linear(y, 512, 1000), [1, 1000], threads)


def torch_lenet():
    from torch import nn
    return nn.Sequential(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
                         nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10))


def torch_infer(net, shape):
    x = torch.randn(shape)

    def call():
        with torch.inference_mode():
            net(x)
    return contender(repeated(call))


def torch_step(threads):
    net, loss = torch_lenet(), torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9)
    x, y = torch.randn(64, 1, 28, 28), torch.randint(0, 10, (64,))

    def step():
        optimizer.zero_grad()
        loss(net(x), y).backward()
        optimizer.step()

    def timed(n):
        torch.set_num_threads(threads)
        seconds = repeated(step)(n)
        torch.set_num_threads(1)
        return seconds
    return contender(timed)


def bench_command(key, *args):
    """Our own bench command, where there is no library to call: milliseconds under `key` in its JSON."""
    def once():
        told = json.loads(cnnc("bench", *args, "--json"))
        return 1e-3 * (told[0] if isinstance(told, list) else told)[key]
    return once


# ---- the table ----

class Table:
    def __init__(self):
        self.lines = []

    def say(self, text=""):
        print(text, flush=True)
        self.lines.append(text)

    def head(self):
        self.say("| what | who | best | median | cnnc is |")
        self.say("|---|---|---|---|---|")

    def compare(self, what, contenders, note=lambda best: ""):
        """contenders: name -> function; the first is ours. Absent ones are None."""
        contenders = {name: f for name, f in contenders.items() if f}
        times = {name: [] for name in contenders}
        for _ in range(ROUNDS):
            for name, f in contenders.items():
                times[name].append(f())
        ours = statistics.median(times[next(iter(times))])
        for i, (name, t) in enumerate(times.items()):
            median = statistics.median(t)
            ratio = note(min(t)) if i == 0 else f"{median / ours:.2f} times as fast"
            self.say(f"| {what if i == 0 else ''} | {name} | {text_of(min(t))} | {text_of(median)} | {ratio} |")


def text_of(seconds):
    return f"{1e6 * seconds:.1f} us" if seconds < 1e-3 else f"{1e3 * seconds:.2f} ms" if seconds < 1 else f"{seconds:.2f} s"


def cpu_name():
    with open("/proc/cpuinfo") as f:
        return re.search(r"model name\s*: (.*)", f.read()).group(1)


def seconds_of(runs, f):
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        f()
        times.append(time.perf_counter() - start)
    return times


def programs(table, folder):
    """Times to start, compile and answer, and sizes."""
    def line(what, times, limit):
        table.say(f"| {what} | {text_of(min(times))} | {text_of(statistics.median(times))} | {limit} |")
    table.say("| what | best | median | promised |")
    table.say("|---|---|---|---|")
    lenet, weights, app = example("lenet"), os.path.join(folder, "w.safetensors"), os.path.join(folder, "app")
    cnnc("init", lenet, "-o", weights)
    line("LeNet-5: report", seconds_of(20, lambda: cnnc("report", lenet)), "20 ms")
    for inputs, limit in [("npy,idx,pgm", 200), ("npy,idx,pgm,png,jpeg", 750)]:
        line(f"LeNet-5: build --inputs {inputs}", seconds_of(3, lambda: cnnc("build", lenet, "--weights", weights, "--inputs", inputs, "-o", app)), "2 s")
        kilobytes = (os.path.getsize(app) - 4 * 61706) / 1000
        table.say(f"| its size without the weights | {kilobytes:.0f} KB | | {limit} KB |")
    picture = os.path.join(ROOT, "examples/data/digits/7.pgm")
    line("LeNet-5: the program, start to answer", seconds_of(30, lambda: subprocess.run([app, picture], check=True, capture_output=True)), "5 ms")
    line("ResNet-18: build", seconds_of(1 if QUICK else 3, lambda: cnnc("build", example("resnet18"), "-q", "-o", os.path.join(folder, "resnet"))), "10 s")


def nets(table, calls, folder):
    peak = calls.peak()
    table.say(f"Peak of one core: {peak / 1e9:.1f} GFLOP/s of float32 multiply-adds. GFLOP/s count what a direct convolution does;"
              " Winograd's does less, so that its share of the peak can pass 100 %.")
    table.say()
    table.head()
    one = ["--threads", "1"]
    for batch in [1, 32]:
        table.compare(f"LeNet-5, inference, batch {batch}, 1 thread", {
            "cnnc": calls.net(folder, example("lenet"), batch),
            "ONNX Runtime, IO binding": onnxruntime and onnx_lenet(batch),
            "PyTorch": torch and torch_infer(torch_lenet(), (batch, 1, 28, 28))},
            lambda best: f"{2e-9 * 416520 * batch / best:.0f} GFLOP/s")
    model, flops = os.path.join(folder, "conv.cnn"), 2 * 64 * 64 * 9 * 56 * 56
    with open(model, "w") as f:
        f.write("input(64, 56, 56)\nConv2d(64, 64, 3, padding=1)\n")
    table.compare("3x3 convolution 64->64 at 56x56, 1 thread", {
        "cnnc": calls.net(folder, model, 1),
        "ONNX Runtime, IO binding": onnxruntime and onnx_conv(),
        "PyTorch": torch and torch_infer(torch.nn.Conv2d(64, 64, 3, padding=1), (1, 64, 56, 56))},
        lambda best: f"{1e-9 * flops / best:.0f} GFLOP/s, {100 * flops / best / peak:.0f} % of peak")
    calm = os.getloadavg()[0] < 0.5 + 1     # this program is one; two threads on a core and a half tell nothing
    for threads in [1, 2] if calm else [1]:
        table.compare(f"LeNet-5, a training step, batch 64, {threads} thread{'s' * (threads > 1)}", {
            "cnnc": bench_command("ms", example("lenet"), "--train", "--batch", "64", "--threads", str(threads)),
            "PyTorch": torch and torch_step(threads)},
            lambda best: f"{64 / best:.0f} images/s")
    table.compare("ResNet-18, one picture, 1 thread", {
        "cnnc": calls.net(folder, example("resnet18"), 1),
        "ONNX Runtime, IO binding": onnxruntime and onnx_resnet18(1)},
        lambda best: f"{2e-9 * 1814073344 / best:.0f} GFLOP/s")
    if calm:
        table.compare("ResNet-18, one picture, 2 threads", {
            "cnnc": bench_command("median_ms", example("resnet18"), "--threads", "2"),
            "ONNX Runtime, IO binding": onnxruntime and onnx_resnet18(2)})
    else:
        table.say()
        table.say("Two threads: not measured, other work had the second core.")


def main():
    table = Table()
    if torch:
        torch.set_num_threads(1)
    cpu = cpu_name()
    peers = ([f"PyTorch {torch.__version__}"] if torch else []) + ([f"ONNX Runtime {onnxruntime.__version__}"] if onnxruntime else [])
    table.say(f"{cpu}, {os.cpu_count()} cores seen, load {os.getloadavg()[0]:.1f} at the start. {cnnc('--version').splitlines()[0]}"
              + "".join(", " + p for p in peers) + "." + (f" Not installed: {', '.join(MISSING)}." if MISSING else ""))
    table.say()
    with tempfile.TemporaryDirectory() as folder:
        nets(table, Calls(folder), folder)
        table.say()
        programs(table, folder)
    if not QUICK:
        folder = os.path.join(HERE, "results")
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, re.sub(r"[^a-z0-9]+", "-", cpu.lower()).strip("-") + ".md")
        with open(path, "w") as f:
            f.write("\n".join(table.lines) + "\n")
        print(f"\nkept in {os.path.relpath(path)}")


main()

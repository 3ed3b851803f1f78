"""Measures what the project promises, on this machine, beside PyTorch and ONNX Runtime where they are installed.

Run from the repository root: python3 tests/bench/run.py [CNNC]     (default: build/cnnc; all on one thread)
Prints one line a promise: what, the measurement, the limit. Never fails on a time: machines differ and are shared.
"""
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

CNNC = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else "build/cnnc")
EXAMPLES = os.path.abspath("examples")
try:
    import torch
    torch.set_num_threads(1)
except ImportError:
    torch = None
try:
    import numpy
    import onnx
    import onnxruntime
except ImportError:
    onnxruntime = None


def run(*args):
    return subprocess.run([CNNC, *args], check=True, capture_output=True, text=True).stdout


def seconds(runs, f):
    """The best of some runs: a shared machine only ever makes one slower."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        f()
        times.append(time.perf_counter() - start)
    return min(times)


def line(what, got, limit=""):
    print(f"{what:52} {got:>16}   {limit}", flush=True)


def example(name):
    return os.path.join(EXAMPLES, name + ".cnn")


def bench_ms(model, *options):
    """Median of one sample per call."""
    return json.loads(run("bench", model, "--json", "--threads", "1", *options))[0]["median_ms"]


def programs(folder):
    lenet, weights = example("lenet"), os.path.join(folder, "w.safetensors")
    line("lenet: report", f"{1e3 * seconds(20, lambda: run('report', lenet)):.1f} ms", "under 20 ms")
    run("init", lenet, "-o", weights)
    for inputs, limit in [("npy,idx,pgm", 200), ("png,jpeg,pgm,idx,npy", 750)]:
        app = os.path.join(folder, "app")
        build = seconds(2, lambda: run("build", lenet, "--weights", weights, "--inputs", inputs, "-o", app))
        line(f"lenet: build --inputs {inputs}", f"{build:.2f} s", "under 2 s")
        line("  size without the weights", f"{(os.path.getsize(app) - 4 * 61706) / 1000:.0f} KB", f"under {limit} KB")
    picture = os.path.join(folder, "one.pgm")
    with open(picture, "wb") as f:
        f.write(b"P5 28 28 255\n" + bytes(784))
    start = seconds(30, lambda: subprocess.run([app, picture], check=True, capture_output=True))
    line("lenet: program, start to answer", f"{1e3 * start:.1f} ms", "under 5 ms (and the time to start a process)")
    net = os.path.join(folder, "resnet18")
    line("resnet18: build", f"{seconds(1, lambda: run('build', example('resnet18'), '-o', net)):.1f} s", "under 10 s")


def convolution(folder):
    model = os.path.join(folder, "conv.cnn")
    with open(model, "w") as f:
        f.write("input(64, 56, 56)\nConv2d(64, 64, 3, padding=1)\n")
    text = run("bench", model, "--threads", "1")
    peak = float(re.search(r"peak per thread ([0-9.]+)", text).group(1))
    rate = 2e-9 * 64 * 64 * 9 * 56 * 56 / (1e-3 * bench_ms(model))
    line("conv 3x3 64->64 at 56x56", f"{rate:.1f} GFLOP/s", f"85 % of the measured peak, {peak:.1f}")


def torch_lenet():
    from torch import nn
    return nn.Sequential(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
                         nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10))


def onnx_lenet(path):
    """The net as ONNX, written node by node: exporters need more packages than the runtime."""
    from onnx import TensorProto, helper, numpy_helper
    weights, nodes, at = [], [], "x"

    def node(op, shapes=(), **attributes):
        nonlocal at
        names = [f"w{len(weights) + i}" for i in range(len(shapes))]
        for name, shape in zip(names, shapes):
            weights.append(numpy_helper.from_array(numpy.random.default_rng(0).normal(0, 0.1, shape).astype("float32"), name))
        out = f"v{len(nodes)}"
        nodes.append(helper.make_node(op, [at, *names], [out], **attributes))
        at = out

    node("Conv", [(6, 1, 5, 5), (6,)], pads=[2, 2, 2, 2])
    node("Relu")
    node("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    node("Conv", [(16, 6, 5, 5), (16,)])
    node("Relu")
    node("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    node("Flatten")
    for i, (o, n) in enumerate([(120, 400), (84, 120), (10, 84)]):
        node("Gemm", [(o, n), (o,)], transB=1)
        if i < 2:
            node("Relu")
    graph = helper.make_graph(nodes, "lenet", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 28, 28])],
                              [helper.make_tensor_value_info(at, TensorProto.FLOAT, [1, 10])], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return at


def one_image(folder):
    line("lenet: one image, one thread", f"{1e3 * bench_ms(example('lenet')):.1f} us", "at most ONNX Runtime's (22 us at 117 GFLOP/s)")
    if onnxruntime:
        path = os.path.join(folder, "lenet.onnx")
        out = onnx_lenet(path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        binding = session.io_binding()
        binding.bind_ortvalue_input("x", onnxruntime.OrtValue.ortvalue_from_numpy(numpy.zeros((1, 1, 28, 28), "float32")))
        binding.bind_ortvalue_output(out, onnxruntime.OrtValue.ortvalue_from_numpy(numpy.zeros((1, 10), "float32")))
        times = []
        for _ in range(20000):
            start = time.perf_counter()
            session.run_with_iobinding(binding)
            times.append(time.perf_counter() - start)
        line("  ONNX Runtime, IO binding", f"{1e6 * statistics.median(times):.1f} us")
    if torch:
        model, x = torch_lenet().eval(), torch.zeros(1, 1, 28, 28)
        with torch.no_grad():
            for _ in range(50):
                model(x)
            line("  PyTorch", f"{1e6 * seconds(500, lambda: model(x)):.1f} us")


def training():
    ours = json.loads(run("bench", example("lenet"), "--train", "--json", "--threads", "1"))
    line("lenet: a training step, batch 64, one thread", f"{ours['ms']:.2f} ms", "a third of PyTorch's")
    if torch:
        model, loss = torch_lenet(), torch.nn.CrossEntropyLoss()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
        x, y = torch.randn(64, 1, 28, 28), torch.randint(0, 10, (64,))

        def step():
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()

        for _ in range(10):
            step()
        theirs = 1e3 * seconds(200, step)
        line("  PyTorch", f"{theirs:.2f} ms", f"{theirs / ours['ms']:.1f} times ours")


with tempfile.TemporaryDirectory() as folder:
    programs(folder)
    convolution(folder)
    one_image(folder)
    training()

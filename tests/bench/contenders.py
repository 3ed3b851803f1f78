"""Who infers: each a function (made, batch, threads) -> Contender, or None where what it needs is not installed.

A Contender holds one input and can be called over and over; all have the same weights and the same input. The peers are set up
as their makers advise for few threads and one stream of work; none may reorder sums ("fast math") beyond what is its default.
"""
import copy
import ctypes
import importlib.util
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass

import numpy

import walk
from nets import HERE, torch


@dataclass
class Contender:
    timed: object           # n -> seconds of n calls in a row
    output: object          # () -> the outputs of the input
    keep: object = None     # what the pointers in `timed` point into


def installed(*modules):
    return all(importlib.util.find_spec(m) for m in modules)


def repeated(call):
    def timed(n):
        start = time.perf_counter()
        for _ in range(n):
            call()
        return time.perf_counter() - start
    return timed


def aligned(shape):
    """A float32 array that starts on a cache line."""
    size = 4 * int(numpy.prod(shape))
    space = numpy.zeros(size + 64, "uint8")
    start = -space.ctypes.data % 64
    return space[start:start + size].view("float32").reshape(shape)


class Calls:
    """calls.c, compiled for this machine; one for all."""
    lib = None

    @classmethod
    def load(cls, folder):
        path = os.path.join(folder, "calls.so")
        subprocess.run(["cc", "-O2", "-march=native", "-shared", "-fPIC", "-pthread", os.path.join(HERE, "calls.c"), "-o", path], check=True)
        cls.lib = ctypes.CDLL(path)
        for f in [cls.lib.time_calls, cls.lib.time_requests, cls.lib.time_peak, cls.lib.peak_flops]:
            f.restype = ctypes.c_double
        cls.lib.time_peak.argtypes = [ctypes.c_int64, ctypes.c_void_p]
        cls.lib.peak_flops.argtypes = [ctypes.c_int64]

    @classmethod
    def peak(cls):
        """Operations a second of float32 multiply-adds on one core, the best of some rounds."""
        sink, n = ctypes.c_float(), 200_000   # short, so that some rounds are undisturbed
        return cls.lib.peak_flops(n) / min(cls.lib.time_peak(n, ctypes.byref(sink)) for _ in range(300))


# ---- cnnc ----

def library(made, batch, options):
    """Path of the net as a shared library, built unless it is there from this very compiler."""
    compiler = int(1e3 * max(os.path.getmtime(os.path.join(os.path.dirname(made.cnnc), f)) for f in ["cnnc", "libcnnc_cpu.so"]
                             if os.path.exists(os.path.join(os.path.dirname(made.cnnc), f))))
    stem = "-".join(["lib", str(batch), *(re.sub(r"\W", "", o) for o in options)])
    path = made.path(f"{stem}-{compiler}.so")
    if os.path.exists(path):
        return path
    for old in os.listdir(made.folder):
        if re.fullmatch(re.escape(stem) + r"-\d+\.\w+", old):
            os.remove(made.path(old))
    done = subprocess.run([made.cnnc, "build", made.cnn, "-q", "--weights", made.weights, "--batch", str(batch), "--emit", "shared",
                           "--name", "net", "-o", path, *options], capture_output=True, text=True)
    if done.returncode:
        print(f"cnnc build {' '.join(options)}: {done.stderr.strip()}", file=sys.stderr)
        return None
    return path


def cnnc(made, batch, threads, options=()):
    """A shared library, called from C, with a pool when there are several threads."""
    path = library(made, batch, [*options, "--threads", str(threads)])
    if not path:
        return None
    lib = ctypes.CDLL(path)
    lib.net_workspace_size.restype = ctypes.c_size_t
    lib.net_output_shape.restype = ctypes.POINTER(ctypes.c_int64)
    x, y = aligned((batch, *made.net.shape)), aligned(tuple(lib.net_output_shape()[:lib.net_output_rank()]))
    x[:] = made.input(batch)
    space = aligned(lib.net_workspace_size() // 4 + 16)
    pointers = [ctypes.c_void_p(a.ctypes.data) for a in (x, y, space)]

    def timed(n):
        seconds = Calls.lib.time_calls(lib.net_infer, *pointers, ctypes.c_int(n))
        if seconds < 0:
            raise RuntimeError("infer failed")
        return seconds

    def output():
        timed(1)
        return y
    return Contender(timed, output, (lib, x, y, space))


def cnnc_bf16(made, batch, threads):
    return cnnc(made, batch, threads, ["--precision", "bf16"])


# ---- the peers ----

def onnx_runtime(made, batch, threads):
    """Input and output bound once, called from Python (which adds a microsecond or two)."""
    if not installed("onnxruntime"):
        return None
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(made.onnx(batch), options, providers=["CPUExecutionProvider"])
    x = onnxruntime.OrtValue.ortvalue_from_numpy(made.input(batch))
    y = onnxruntime.OrtValue.ortvalue_from_numpy(numpy.zeros(made.expected(batch).shape, "float32"))
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", x)
    binding.bind_ortvalue_output("y", y)

    def output():
        session.run_with_iobinding(binding)
        return y.numpy()
    return Contender(repeated(lambda: session.run_with_iobinding(binding)), output, (x, y))


def checked(status):
    if status:
        raise RuntimeError(f"OpenVINO's C interface answered {status}")


def openvino(made, batch, threads, precision="f32"):
    """Latency mode, one stream; called through OpenVINO's C interface, from C."""
    if not installed("openvino"):
        return None
    import openvino as package
    folder = os.path.join(os.path.dirname(package.__file__), "libs")
    name = [f for f in os.listdir(folder) if f.startswith("libopenvino_c.so")][0]
    lib = ctypes.CDLL(os.path.join(folder, name))
    core, model, compiled, request = (ctypes.c_void_p() for _ in range(4))
    settings = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": str(threads), "ENABLE_CPU_PINNING": "NO",
                "INFERENCE_PRECISION_HINT": precision}
    words = [ctypes.c_char_p(word.encode()) for pair in settings.items() for word in pair]
    checked(lib.ov_core_create(ctypes.byref(core)))
    checked(lib.ov_core_read_model(core, made.onnx(batch).encode(), None, ctypes.byref(model)))
    checked(lib.ov_core_compile_model(core, model, b"CPU", ctypes.c_size_t(len(words)), ctypes.byref(compiled), *words))
    checked(lib.ov_compiled_model_create_infer_request(compiled, ctypes.byref(request)))

    def tensor(get, shape):
        handle, data = ctypes.c_void_p(), ctypes.POINTER(ctypes.c_float)()
        checked(get(request, ctypes.byref(handle)))
        checked(lib.ov_tensor_data(handle, ctypes.byref(data)))
        return numpy.ctypeslib.as_array(data, shape)
    x = tensor(lib.ov_infer_request_get_input_tensor, (batch, *made.net.shape))
    y = tensor(lib.ov_infer_request_get_output_tensor, made.expected(batch).shape)
    x[:] = made.input(batch)

    def timed(n):
        seconds = Calls.lib.time_requests(lib.ov_infer_request_infer, request, ctypes.c_int(n))
        if seconds < 0:
            raise RuntimeError("OpenVINO failed")
        return seconds

    def output():
        timed(1)
        return y
    return Contender(timed, output, (lib, core, model, compiled))


def openvino_bf16(made, batch, threads):
    return openvino(made, batch, threads, "bf16")


def ncnn(made, batch, threads):
    """Converted by pnnx; ncnn takes one sample at a time."""
    if not installed("ncnn", "pnnx"):
        return None
    import ncnn as package
    import pnnx
    stem = made.path("ncnn/net")
    if not os.path.exists(stem + ".ncnn.param"):
        os.makedirs(os.path.dirname(stem), exist_ok=True)
        torch.jit.trace(made.module, torch.from_numpy(made.input(1))).save(stem + ".pt")
        shape = str([1, *made.net.shape]).replace(" ", "")
        tool = os.path.join(os.path.dirname(pnnx.__file__), "pnnx")
        subprocess.run([tool, stem + ".pt", f"inputshape={shape}", "fp16=0"], check=True, capture_output=True)
    net = package.Net()
    net.opt.num_threads = threads
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = net.opt.use_bf16_storage = False
    if net.load_param(stem + ".ncnn.param") or net.load_model(stem + ".ncnn.bin"):
        raise RuntimeError("ncnn does not read what pnnx wrote")
    mats = [package.Mat(x).clone() for x in made.input(batch)]

    def one(mat):
        with net.create_extractor() as extractor:
            extractor.input("in0", mat)
            return extractor.extract("out0")[1]

    def call():
        for mat in mats:
            one(mat)
    return Contender(repeated(call), lambda: numpy.stack([numpy.array(one(mat)) for mat in mats]), net)


def torch_contender(made, batch, threads, change):
    """change: (module, input) -> both as they are to be called."""
    if not torch:
        return None
    torch.set_num_threads(threads)
    with torch.inference_mode():
        module, x = change(copy.deepcopy(made.module), torch.from_numpy(made.input(batch)))
        module(x)
    call = repeated(lambda: module(x))

    def timed(n):
        torch.set_num_threads(threads)
        with torch.inference_mode():
            return call(n)

    def output():
        with torch.inference_mode():
            return module(x).numpy()
    return Contender(timed, output)


def folded(module):
    """Batch norms in the convolutions' weights: what PyTorch offers for inference."""
    from torch.fx.experimental import optimization
    return optimization.fuse(module)


def torch_eager(made, batch, threads):
    return torch_contender(made, batch, threads, lambda module, x: (folded(module), x))


def torch_channels_last(made, batch, threads):
    layout = {"memory_format": torch.channels_last} if torch else {}
    return torch_contender(made, batch, threads, lambda module, x: (folded(module).to(**layout), x.to(**layout)))


def torch_compiled(made, batch, threads):
    def change(module, x):
        import torch._inductor.config as settings
        settings.freezing = True            # weights are constants, in the layout that oneDNN likes
        torch._dynamo.reset()
        return torch.compile(module), x
    return torch_contender(made, batch, threads, change)


def jax(made, batch, threads):
    if not installed("jax"):
        return None
    call, x = walk.jax_inference(made, batch)
    return Contender(repeated(lambda: call(x).block_until_ready()), lambda: numpy.asarray(call(x)))


INFERENCE = {"cnnc": cnnc, "ONNX Runtime": onnx_runtime, "OpenVINO": openvino, "ncnn": ncnn, "PyTorch": torch_eager,
             "channels_last": torch_channels_last, "torch.compile": torch_compiled, "JAX": jax}
BF16 = {"cnnc": cnnc_bf16, "OpenVINO": openvino_bf16}

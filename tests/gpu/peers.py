"""PyTorch's side of the times on a GPU: a process that device.py sends jobs to, so that one that crashes or hangs costs its rows alone.

    python3 tests/gpu/peers.py [--device cuda] [--seconds 0.5] [--warm NUMBER/OF]

Reads a job a line as JSON (net, training, batch, precision, compile) and answers each with one line: a list of rows
[who, median ms of a call, ms of its kernels], or of one row that says why there is none. A job is a module as it is, or through
torch.compile, called eagerly and then recorded as a CUDA graph. In tf32 and bf16 the module lies channels_last, in
bf16 it runs under autocast.
With --warm it calls each OFth job once and answers nothing: torch.compile's cache then has it.
"""
import argparse
import json
import os
import statistics
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "bench"))

import torch
from torch import nn

import nets

SHAPES = {"lenet": (1, 28, 28), "tinyvgg": (3, 64, 64), "cifar_vgg": (3, 32, 32), "resnet18": (3, 224, 224), "mobilenet": (3, 224, 224)}


class Block(nn.Module):
    """Of ResNet-18 as torchvision's, which need not be there."""

    def __init__(self, c, k, stride):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(c, k, 3, stride, 1, bias=False), nn.BatchNorm2d(k), nn.ReLU(True),
                                  nn.Conv2d(k, k, 3, 1, 1, bias=False), nn.BatchNorm2d(k))
        self.short = nn.Sequential(nn.Conv2d(c, k, 1, stride, bias=False), nn.BatchNorm2d(k)) if stride > 1 else nn.Identity()
        self.relu = nn.ReLU(True)

    def forward(self, x):
        return self.relu(self.body(x) + self.short(x))


def resnet18():
    layers, c = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(True), nn.MaxPool2d(3, 2, 1)], 64
    for k, stride in [(64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)]:
        layers.append(Block(c, k, stride))
        c = k
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000))


class Contender:
    """A module in one precision: `call` times whole calls, from the host's pinned memory and back; `kernels` the device's part."""

    def __init__(self, job, device):
        self.job, self.device, self.graph = job, device, None
        on_gpu = device == "cuda"
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = job["precision"] != "f32"
        torch.backends.cudnn.benchmark = True
        lies = torch.contiguous_format if job["precision"] == "f32" else torch.channels_last
        build = resnet18 if job["net"] == "resnet18" else getattr(nets, job["net"])
        self.module = build().to(device).to(memory_format=lies).train(job["training"])
        self.x_host = torch.randn(job["batch"], *SHAPES[job["net"]])
        self.x_host = self.x_host.pin_memory() if on_gpu else self.x_host
        self.x = self.x_host.to(device).to(memory_format=lies)
        self.labels = torch.randint(0, 10, (job["batch"],)).to(device)
        if job["training"]:
            self.optimizer = torch.optim.SGD(self.module.parameters(), lr=1e-5, momentum=0.9, foreach=True)
        self.forward = torch.compile(self.module, dynamic=False) if job["compile"] else self.module
        for _ in range(3):
            self.out = self.body()
        self.wait()
        self.host = torch.empty(self.out.shape, dtype=self.out.dtype)
        self.host = self.host.pin_memory() if on_gpu else self.host

    def body(self):
        training = self.job["training"]
        with torch.autocast(self.device, torch.bfloat16, enabled=self.job["precision"] == "bf16"), torch.set_grad_enabled(training):
            out = self.forward(self.x)
            if not training:
                return out
            loss = nn.functional.cross_entropy(out.float(), self.labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def wait(self):
        if self.device == "cuda":
            torch.cuda.synchronize()

    def record(self):
        """The same calls as one CUDA graph from here on."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self.body()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.out = self.body()
        self.graph = graph

    def once(self):
        self.x.copy_(self.x_host, non_blocking=True)
        if self.graph:
            self.graph.replay()
        else:
            self.out = self.body()
        self.host.copy_(self.out, non_blocking=True)

    def call(self, seconds):
        """Milliseconds of a call: inference waits for each, training for the step before, whose loss it then has."""
        times, start, before, on_gpu = [], time.perf_counter(), None, self.device == "cuda"
        while len(times) < 5 or time.perf_counter() - start < seconds:
            at, now = time.perf_counter(), torch.cuda.Event() if on_gpu else None
            self.once()
            if on_gpu:
                now.record()
                waited = before if self.job["training"] and before else now
                waited.synchronize()
                before = now
            times.append(1e3 * (time.perf_counter() - at))
        self.wait()
        return statistics.median(times)

    def kernels(self):
        """Of the graph, between two events."""
        best = None
        for _ in range(5):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            for _ in range(20):
                self.graph.replay()
            end.record()
            end.synchronize()
            ms = start.elapsed_time(end) / 20
            best = ms if best is None else min(best, ms)
        return best


def first_line(e):
    return (str(e).strip() or type(e).__name__).splitlines()[0][:60]


def rows_of(job, device, seconds):
    who, rows = "torch.compile" if job["compile"] else "PyTorch", []
    try:
        c = Contender(job, device)
        rows.append([who, c.call(seconds), None])
        if device == "cuda":
            who += ", CUDA graph"
            c.record()
            rows.append([who, c.call(seconds), c.kernels()])
    except Exception as e:      # out of memory, a compiler that is not there, what cannot be recorded: the row says so
        rows.append([f"{who}: {first_line(e)}", None, None])
    return rows


def forget():
    torch._dynamo.reset()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    p.add_argument("--seconds", type=float, default=0.5, help="of a row")
    p.add_argument("--warm", help="NUMBER/OF: run these jobs and time none")
    o = p.parse_args()
    number, of = map(int, o.warm.split("/")) if o.warm else (0, 1)
    for i, line in enumerate(sys.stdin):
        job = json.loads(line)
        if not o.warm:
            print(json.dumps(rows_of(job, o.device, o.seconds)), flush=True)
        elif i % of == number:
            rows_of(job, o.device, 0)
        forget()


if __name__ == "__main__":
    main()

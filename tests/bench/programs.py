"""What it costs to make a program and to start it: times, memory, sizes."""
import os
import statistics
import subprocess
import sys
import time

from nets import EXAMPLES

ROOT = os.path.dirname(EXAMPLES)


def seconds_of(runs, command):
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return times


def peak_memory(command):
    """Bytes that the command, or a process it starts, holds at most. A shell stands between, since a child's figure begins with its
    parent's, and this one has libraries of hundreds of megabytes."""
    count = 'import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)'
    told = subprocess.run(["sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-c", count, *command], check=True, capture_output=True, text=True)
    return int(told.stdout) * 1024


def spread(times, wanted):
    return {"best": min(times), "median": statistics.median(times), "wanted": wanted}


def build_rows(cnnc, folder, net, title, wanted, runs):
    """A library with the net's initial weights: time, and memory beside the size of the result."""
    model, out = os.path.join(EXAMPLES, net + ".cnn"), os.path.join(folder, net + ".o")
    command = [cnnc, "build", model, "-q", "--emit", "obj", "-o", out]
    rows = {f"{title}: build": spread(seconds_of(runs, command), f"{wanted} s")}
    rows[f"{title}: memory of the build / size of the result"] = {"ratio": peak_memory(command) / os.path.getsize(out), "wanted": "1.5"}
    os.remove(out)
    return rows


def lenet_rows(cnnc, folder, runs):
    lenet, weights, app = os.path.join(EXAMPLES, "lenet.cnn"), os.path.join(folder, "lenet.safetensors"), os.path.join(folder, "lenet-app")
    subprocess.run([cnnc, "init", lenet, "-q", "-o", weights], check=True)
    rows = {"LeNet-5: report": spread(seconds_of(10 * runs, [cnnc, "report", lenet]), "20 ms")}
    for inputs, limit in [("npy,idx,pgm", 200), ("npy,idx,pgm,png,jpeg", 750)]:
        times = seconds_of(runs, [cnnc, "build", lenet, "-q", "--weights", weights, "--inputs", inputs, "-o", app])
        rows[f"LeNet-5: program that reads {inputs}"] = spread(times, "0.5 s")
        rows[f"LeNet-5: program that reads {inputs}, size without the weights"] = {"bytes": os.path.getsize(app) - 4 * 61706, "wanted": f"{limit} KB"}
    picture = os.path.join(ROOT, "examples/data/digits/7.pgm")
    rows["LeNet-5: the program, start to first result"] = spread(seconds_of(30 * runs, [app, picture]), "3 ms")
    return rows


def measure(cnnc, folder, names, runs):
    rows = {}
    if "lenet" in names:
        rows.update(lenet_rows(cnnc, folder, runs))
    for net, title, wanted in [("resnet50", "ResNet-50", 4), ("vgg16", "VGG-16", 10)]:
        if net in names:
            rows.update(build_rows(cnnc, folder, net, title, wanted, min(runs, 2)))
    return rows

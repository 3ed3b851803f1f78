"""Two threads against one, on this machine, for the nets of examples/; and a busy process on one of the cores.

    python3 tests/bench/threads.py [BUILD] [--net lenet,vgg16] [--kind 1,32,train] [--rounds 3] [--contended] [--prepare] [--no-keep]

The table: the least time of a call (or of a block of training steps) on one and on two threads, in turns. `cores` is what two threads
of pure arithmetic got in the same turn, of one, `trip` the time of a cache line to the other core and back: a virtual machine's second
core comes and goes, and may sit far from the first. Of the turns those with the shortest way count. --contended: the median of 1,000
steps of LeNet-5's training and of calls of TinyVGG's library at batch 32, on one thread, on two, and on two while a process spins on
one of the two cores. Both are kept in tests/bench/results/threads/CPU.md and .json, row by row. --prepare only builds. Needs no package.
"""
import argparse
import ctypes
import datetime
import json
import os
import signal
import statistics
import subprocess
import threading
import time

from machine import name, stem

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
TRAINING = {"lenet": 64, "conv20": 64, "simple_cnn": 64, "tinyvgg": 32, "cifar_vgg": 64, "resnet18": 8, "mobilenet": 8}
NETS = ["lenet", "conv20", "simple_cnn", "tinyvgg", "cifar_vgg", "resnet18", "vgg16", "resnet50", "googlenet", "alexnet", "mobilenet",
        "mobilenetv2"]
STEPS = 1000


def options():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("build", nargs="?", default=os.path.join(ROOT, "build"), help="the build folder")
    p.add_argument("--net", default=",".join(NETS), help="names, with commas (all)")
    p.add_argument("--kind", default="1,32,train", help="batches of inference, and training (1,32,train)")
    p.add_argument("--rounds", type=int, default=3, help="turns of one and two threads (3)")
    p.add_argument("--trip", type=float, default=0, help="nanoseconds: a turn waits until the second core is that near (20 s at most)")
    for what in ["contended", "prepare", "no-keep"]:
        p.add_argument("--" + what, action="store_true")
    return p.parse_args()


def run(*words):
    return subprocess.run([str(w) for w in words], check=True, capture_output=True, text=True).stdout


class Bench:
    """Programs in a folder of their own, made when they are asked for."""

    def __init__(self, build):
        self.cnnc, self.folder = os.path.join(build, "cnnc"), os.path.join(build, "bench", "threads")
        os.makedirs(self.folder, exist_ok=True)

    def made(self, name, net, *words):
        path = os.path.join(self.folder, name)
        if not os.path.exists(path) or os.path.getmtime(path) < os.path.getmtime(self.cnnc):
            run(self.cnnc, "build", os.path.join(ROOT, "examples", net + ".cnn"), "-q", "-o", path, *words)
        return path

    def program(self, net, batch):
        return self.made(f"{net}-{batch}", net, "--batch", batch, "--inputs", "none")

    def seconds(self, net, kind, threads):
        """The least and the median of about half a second."""
        if kind == "train":
            path = os.path.join(ROOT, "examples", net + ".cnn")
            told = json.loads(run(self.cnnc, "bench", path, "--train", "--batch", TRAINING[net], "-q", "--json", "--threads", threads))
            return 1e-3 * told["best_ms"], 1e-3 * told["ms"]
        told = json.loads(run(self.program(net, kind), "--bench", "--json", "--threads", threads))[-1]
        return 1e-3 * told["best_ms"], 1e-3 * told["median_ms"]

    def calls(self):
        """calls.c: additions and multiplications that touch no memory; the way between cores."""
        path = os.path.join(self.folder, "calls.so")
        if not os.path.exists(path):
            run(os.environ.get("CC", "cc"), "-O2", "-march=native", "-fPIC", "-shared", "-pthread", os.path.join(HERE, "calls.c"), "-o", path)
        lib = ctypes.CDLL(path)
        lib.time_peak.restype = lib.time_round_trip.restype = ctypes.c_double
        return lib


def trip(lib):
    """Seconds to the second core and back."""
    first, second = sorted(os.sched_getaffinity(0))[:2]
    return lib.time_round_trip(first, second, 20)


def cores(lib):
    """How many cores two threads have, at this moment."""
    def arithmetic(n):
        return lib.time_peak(ctypes.c_int64(n), ctypes.byref(ctypes.c_float()))
    n = int(2e6 * 0.02 / arithmetic(2000000))
    times = []
    alone = min(arithmetic(n) for _ in range(3))
    both = [threading.Thread(target=lambda: times.append(arithmetic(n))) for _ in range(2)]
    start = time.perf_counter()
    for t in both:
        t.start()
    for t in both:
        t.join()
    return 2 * alone / (time.perf_counter() - start)


def trip_at_most(lib, nanoseconds):
    start = time.perf_counter()
    way = trip(lib)
    while nanoseconds and 1e9 * way > nanoseconds and time.perf_counter() - start < 20:
        time.sleep(0.2)
        way = trip(lib)
    return way


def row_of(bench, net, kind, rounds, nanoseconds):
    turns, lib = [], bench.calls()
    for _ in range(rounds):
        way = trip_at_most(lib, nanoseconds)
        turns.append((max(way, trip(lib)), bench.seconds(net, kind, 1), bench.seconds(net, kind, 2), cores(lib)))
    way = min(t[0] for t in turns)
    _, one, two, seen = zip(*(t for t in turns if t[0] < 1.5 * way))
    least, middle = ([f(t[i] for t in times) for times in (one, two)] for i, f in ((0, min), (1, statistics.median)))
    return {"net": net, "kind": kind, "batch": TRAINING[net] if kind == "train" else int(kind), "one": least[0], "two": least[1],
            "median_one": middle[0], "median_two": middle[1], "cores": max(seen), "trip": way, "when": datetime.date.today().isoformat()}


# ---- beside a busy process ----

def spin(core):
    """A process that computes for ever on that core."""
    child = os.fork()
    if child == 0:
        os.sched_setaffinity(0, [core])
        while True:
            pass
    return child


def training_steps(bench, threads):
    path = bench.made("lenet-trainer", "lenet", "--trainer", "--batch", TRAINING["lenet"])
    return lambda: json.loads(run(path, "--bench", "--json", "--steps", STEPS, "--threads", threads))["median_ms"]


def library_calls(bench, threads):
    """Calls of a library of TinyVGG, batch 32."""
    path = bench.made(f"tinyvgg{threads}.so", "tinyvgg", "--batch", 32, "--emit", "shared", "--threads", threads, "--name", "net")
    lib = ctypes.CDLL(path)
    lib.net_workspace_size.restype = ctypes.c_size_t
    lib.net_input_shape.restype = ctypes.POINTER(ctypes.c_int64)
    n = 1
    for d in lib.net_input_shape()[:lib.net_input_rank()]:
        n *= d
    x, y = (ctypes.c_float * n)(*(i % 251 / 250 for i in range(n))), (ctypes.c_float * (1 << 16))()
    space = ctypes.create_string_buffer(lib.net_workspace_size() + 64)

    def median():
        at, times = ctypes.c_void_p(ctypes.addressof(space) + -ctypes.addressof(space) % 64), []
        for _ in range(STEPS):
            start = time.perf_counter()
            if lib.net_infer(x, y, at):
                raise RuntimeError("infer failed")
            times.append(time.perf_counter() - start)
        return 1e3 * statistics.median(times)
    return median


def contended_row(bench, title, calls, rounds, nanoseconds):
    one, two, lib = calls(bench, 1), calls(bench, 2), bench.calls()
    quiet_one, quiet_two, busy = [], [], []
    for _ in range(rounds):
        trip_at_most(lib, nanoseconds)
        quiet_one.append(one())
        quiet_two.append(two())
        hog = spin(sorted(os.sched_getaffinity(0))[-1])
        busy.append(two())
        os.kill(hog, signal.SIGKILL)
        os.waitpid(hog, 0)
    return {"net": title, "kind": "contended", "one": statistics.median(quiet_one), "two": statistics.median(quiet_two),
            "busy": statistics.median(busy), "when": datetime.date.today().isoformat()}


CONTENDED = {"LeNet-5, a training step, batch 64": training_steps, "TinyVGG, a call of its library, batch 32": library_calls}


# ---- what is kept ----

def markdown(kept):
    machine, rows = kept["machine"], list(kept["rows"].values())
    rows.sort(key=lambda r: (NETS.index(r["net"]) if r["net"] in NETS else 99, {"1": 0, "32": 1}.get(r["kind"], 2)))
    lines = [f"{machine['cpu']}, {machine['cores']} cores seen; two threads against one, milliseconds, least of all turns.",
             "`cores`: what two threads of pure arithmetic got of the machine in the best turn; `trip`: of a cache line to the other core and back.", "",
             "| net | call | one thread | two | ratio | cores | trip |", "|---|---|---|---|---|---|---|"]
    for r in rows:
        if r["kind"] != "contended":
            call = f"step, {r['batch']}" if r["kind"] == "train" else f"batch {r['batch']}"
            lines.append(f"| {r['net']} | {call} | {1e3 * r['one']:.4g} | {1e3 * r['two']:.4g} | {r['one'] / r['two']:.2f} | {r['cores']:.2f} | "
                         f"{1e9 * r['trip']:.0f} ns |")
    lines += ["", f"Medians of {STEPS:,} steps in milliseconds, quiet, and while another process spins on one of the two cores.", "",
              "| what | one thread | two, quiet | two, contended | contended / one |", "|---|---|---|---|---|"]
    lines += [f"| {r['net']} | {r['one']:.4g} | {r['two']:.4g} | {r['busy']:.4g} | {r['busy'] / r['one']:.2f} |"
              for r in rows if r["kind"] == "contended"]
    return "\n".join(lines) + "\n"


class Kept:
    def __init__(self, keep):
        self.keep = keep
        self.stem = os.path.join(HERE, "results", "threads", stem())
        self.all = {"machine": {}, "rows": {}}
        if os.path.exists(self.stem + ".json"):
            with open(self.stem + ".json") as f:
                self.all = json.load(f)

    def add(self, row):
        self.all["machine"] = {"cpu": name(), "cores": os.cpu_count()}
        self.all["rows"][f"{row['net']} {row['kind']}"] = row
        if self.keep:
            os.makedirs(os.path.dirname(self.stem), exist_ok=True)
            with open(self.stem + ".json", "w") as f:
                json.dump(self.all, f, indent=1, sort_keys=True)
                f.write("\n")
            with open(self.stem + ".md", "w") as f:
                f.write(markdown(self.all))


def main():
    o = options()
    bench, kept = Bench(os.path.abspath(o.build)), Kept(not o.no_keep)
    if o.prepare:
        bench.calls()
    for title, calls in CONTENDED.items() if o.contended else []:
        if o.prepare:
            calls(bench, 1), calls(bench, 2)
            continue
        row = contended_row(bench, title, calls, o.rounds, o.trip)
        print(f"{title}: {row['one']:.4f} ms on one thread, {row['two']:.4f} on two, {row['busy']:.4f} contended "
              f"({row['busy'] / row['one']:.2f} times one)", flush=True)
        kept.add(row)
    for net in o.net.split(",") if not o.contended else []:
        for kind in o.kind.split(","):
            if kind == "train" and net not in TRAINING:
                continue
            if o.prepare:
                if kind != "train":
                    bench.program(net, kind)
                continue
            r = row_of(bench, net, kind, o.rounds, o.trip)
            print(f"{net:12} {kind:5}  {1e3 * r['one']:10.4f} {1e3 * r['two']:10.4f}  {r['one'] / r['two']:5.2f}   medians "
                  f"{1e3 * r['median_one']:10.4f} {1e3 * r['median_two']:10.4f}  {r['median_one'] / r['median_two']:5.2f}   "
                  f"cores {r['cores']:.2f}, {1e9 * r['trip']:.0f} ns", flush=True)
            kept.add(r)


main()

"""Measures the nets of examples/ on this machine beside ONNX Runtime, OpenVINO, ncnn, PyTorch and JAX, as far as this Python has them.

    python3 tests/bench/run.py [BUILD] [--net lenet,vgg16] [--batch 1] [--infer] [--train] [--bf16] [--programs] ...

Without options everything. Contenders take turns (rounds.py); each row is printed when it is there and kept in tests/bench/results/,
named after the CPU: a JSON file into which the rows of every run go, and the table made from it. BUILD is the build folder (build);
what peers start from is made once, in BUILD/bench. A row's contenders are all from one run. Nothing fails on a time: machines
differ and are shared. Needs PyTorch and numpy, which define the weights; the other peers may be absent.
"""
import argparse
import datetime
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys

TRAIN_ROUNDS = 3        # turns of each contender in a training row
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))


def options():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("build", nargs="?", default=os.path.join(ROOT, "build"), help="the build folder")
    p.add_argument("--net", help="names, with commas (all)")
    p.add_argument("--batch", default="1,32", help="batch sizes of inference (1,32)")
    for what in ["infer", "train", "bf16", "programs"]:
        p.add_argument("--" + what, action="store_true", help="only this, and what else is named")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--without", default="", help="peers to leave out, with commas")
    p.add_argument("--only", default="", help="peers to take, with commas")
    p.add_argument("--rounds", type=int, default=0, help="turns of each contender (as many as fit --seconds)")
    p.add_argument("--seconds", type=float, default=20, help="time of a row")
    p.add_argument("--prepare", action="store_true", help="only make what the contenders start from")
    p.add_argument("--no-keep", action="store_true", help="print only")
    o = p.parse_args()
    if not (o.infer or o.train or o.bf16 or o.programs):
        o.infer = o.train = o.bf16 = o.programs = True
    return o


def pin(threads):
    """To as many cores as threads are compared, the last ones: before any library counts them."""
    cores = sorted(os.sched_getaffinity(0))
    if threads < len(cores):
        os.sched_setaffinity(0, cores[-threads:])
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)


OPTIONS = options()
ALL_CORES = os.cpu_count()
pin(OPTIONS.threads)

import contenders as who_infers     # noqa: E402: after pin
import machine                      # noqa: E402
import programs                     # noqa: E402
import rounds                       # noqa: E402
import table                        # noqa: E402
import training as who_trains       # noqa: E402
from nets import NETS, Made, error_of   # noqa: E402


def chosen(names):
    """Of the contenders' names those that the options leave."""
    without, only = ([w for w in text.split(",") if w] for text in (OPTIONS.without, OPTIONS.only))
    return [n for n in names if n == "cnnc" or (n not in without and (not only or n in only))]


def summary(times, error):
    return {"best": min(times), "median": statistics.median(times), "error": error}


def open_contenders(functions, made, batch):
    found = {}
    for name in chosen(functions):
        try:
            contender = functions[name](made, batch, OPTIONS.threads)
            if contender:
                contender.timed(1)      # compiles and allocates, or cannot
        except Exception as e:      # a peer that cannot do this net is left out, and said so
            print(f"{name}: {type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}", file=sys.stderr)
            continue
        if contender:
            found[name] = contender
    return found


def infer_row(made, batch, precision):
    functions = who_infers.BF16 if precision == "bf16" else who_infers.INFERENCE
    contenders = open_contenders(functions, made, batch)
    if OPTIONS.prepare or "cnnc" not in contenders:
        return None
    expected = made.expected(batch)
    errors = {name: error_of(c.output(), expected) for name, c in contenders.items()}
    times = rounds.measure(contenders, OPTIONS.seconds, OPTIONS.rounds)
    return {name: summary(t, errors[name]) for name, t in times.items()}


def train_row(made):
    batch = made.net.train_batch
    trainer = who_trains.Trainer(made, batch, OPTIONS.threads)
    contenders = open_contenders(who_trains.TRAINING, made, batch)
    if OPTIONS.prepare:
        return None
    ours, times = [], {name: [] for name in contenders}
    for _ in range(OPTIONS.rounds or TRAIN_ROUNDS):          # the trainer times half a second of its own
        ours.append(trainer.times())
        for name, t in rounds.measure(contenders, OPTIONS.seconds / TRAIN_ROUNDS, 1).items():
            times[name] += t
    row = {name: summary(t, None) for name, t in times.items()}
    exact = who_trains.torch_gradients(made, batch, who_trains.torch.float64)
    row["cnnc"] = {"best": min(best for best, _ in ours), "median": statistics.median(median for _, median in ours),
                   "error": error_of(trainer.gradients(), exact)}
    if "PyTorch" in row:
        row["PyTorch"]["error"] = error_of(who_trains.torch_gradients(made, batch, who_trains.torch.float32), exact)
    return row


def macs_of(made):
    told = subprocess.run([made.cnnc, "report", made.cnn, "-q", "--format", "json"], check=True, capture_output=True, text=True)
    return json.loads(told.stdout)["totals"]["macs"]


def rows_of(net, cnnc, work):
    """The chosen rows of one net, each when it is measured."""
    made = Made(net, work, cnnc)
    kinds = [("infer", int(batch), "f32") for batch in OPTIONS.batch.split(",") if OPTIONS.infer]
    kinds += [("infer", int(batch), "bf16") for batch in OPTIONS.batch.split(",") if OPTIONS.bf16]
    kinds += [("train", net.train_batch, "f32")] if OPTIONS.train and net.train_batch else []
    for kind, batch, precision in kinds:
        who = train_row(made) if kind == "train" else infer_row(made, batch, precision)
        if who:
            yield {"net": net.name, "kind": kind, "batch": batch, "threads": OPTIONS.threads, "precision": precision,
                   "macs": macs_of(made), "when": datetime.date.today().isoformat(), "who": who}


def versions(cnnc):
    yield subprocess.run([cnnc, "--version"], check=True, capture_output=True, text=True).stdout.splitlines()[0]
    for title, package in [("PyTorch", "torch"), ("ONNX Runtime", "onnxruntime"), ("OpenVINO", "openvino"), ("ncnn", "ncnn"), ("JAX", "jax")]:
        if who_infers.installed(package):
            yield f"{title} {importlib.metadata.version(package)}"


class Kept:
    """The results of this machine, written after each row."""

    def __init__(self):
        self.stem = os.path.join(HERE, "results", machine.stem())
        self.results = table.load(self.stem + ".json")

    def write(self):
        if OPTIONS.no_keep:
            return
        os.makedirs(os.path.dirname(self.stem), exist_ok=True)
        table.save(self.stem + ".json", self.results)
        with open(self.stem + ".md", "w") as f:
            f.write("\n".join(table.markdown(self.results)) + "\n")


def main():
    build = os.path.abspath(OPTIONS.build)
    cnnc, work = os.path.join(build, "cnnc"), os.path.join(build, "bench")
    os.makedirs(work, exist_ok=True)
    who_infers.Calls.load(work)
    names = OPTIONS.net.split(",") if OPTIONS.net else [n.name for n in NETS]
    kept = Kept()
    peak = max(who_infers.Calls.peak(), kept.results["machine"].get("peak", 0))
    kept.results["machine"] = {"cpu": machine.name(), "cores": ALL_CORES, "peak": peak, "versions": list(versions(cnnc))}
    for net in NETS:
        for row in rows_of(net, cnnc, work) if net.name in names else []:
            print(table.text_of(row), flush=True)
            kept.results["rows"][table.key_of(row)] = row
            kept.write()
    if OPTIONS.programs and not OPTIONS.prepare:
        rows = programs.measure(cnnc, work, names, 3)
        print("\n".join(table.program_table(rows)))
        kept.results["programs"].update(rows)
        kept.write()


main()

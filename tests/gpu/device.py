"""Times on a GPU: cnnc beside PyTorch, each as its users run it.

    python3 tests/gpu/device.py CNNC FOLDER [--net lenet,resnet18] [--seconds 0.5] [--within 500] [--results FOLDER]
    python3 tests/gpu/device.py CNNC FOLDER --warm 6            kernels go to their caches, six jobs at once

Inference is a call from the host's pinned memory and back; a training step takes its batch from there and reads its loss one step late.
PyTorch (peers.py) runs as it is, through torch.compile, and both recorded as a CUDA graph; in float32, tf32 and bf16 (autocast).
Medians are shown. `kernels`: the device's own time, of cnnc's kernels one by one and of PyTorch's graph between two events; `of
peak`: the net's multiply-adds in that time, of what the GPU can do in that precision.

Meant for a machine that is there for minutes: what matters most comes first, every part has a time limit of its own, and one that
crashes or hangs costs its own rows. Rows are kept as they come in FOLDER/times.jsonl (a second run goes on from there), the table of
those so far in gpu-NAME.md (in tests/bench/results, or --results), cnnc's time of each kernel in FOLDER/kernels.jsonl (or --results).
Without PyTorch cnnc stands alone. --torch-device cpu: the same where there is no GPU for PyTorch, without CUDA graphs.
"""
import argparse
import concurrent.futures
import hashlib
import json
import os
import re
import select
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))

BATCHES = [1, 32, 256]
TRAIN_BATCH = {"lenet": 64, "tinyvgg": 32, "cifar_vgg": 64, "resnet18": 64, "mobilenet": 64}
TITLES = {"lenet": "LeNet-5", "tinyvgg": "TinyVGG", "cifar_vgg": "CIFAR VGG", "resnet18": "ResNet-18", "mobilenet": "MobileNetV1"}
PRECISIONS = ["f32", "bf16", "tf32"]
LIMIT = 60      # seconds of one part


# ---- what is to be timed ----

def all_jobs(names, batches, precisions, training):
    """What the project promises first; then net by net."""
    jobs = [dict(net=n, training=True, batch=TRAIN_BATCH[n], precision=p) for n, p in
            [("lenet", "f32"), ("tinyvgg", "f32"), ("cifar_vgg", "bf16")]]
    jobs += [dict(net="resnet18", training=False, batch=1, precision=p) for p in ["bf16", "f32", "tf32"]]
    jobs.append(dict(net="cifar_vgg", training=True, batch=TRAIN_BATCH["cifar_vgg"], precision="f32"))
    for p in PRECISIONS:
        for n in TITLES:
            jobs.append(dict(net=n, training=True, batch=TRAIN_BATCH[n], precision=p))
            jobs += [dict(net=n, training=False, batch=b, precision=p) for b in BATCHES]
    seen, kept = set(), []
    for j in jobs:
        wanted = j["net"] in names and j["precision"] in precisions and (training if j["training"] else j["batch"] in batches)
        if wanted and key_of(j) not in seen:
            kept.append(j)
        seen.add(key_of(j))
    return kept


def key_of(job):
    return (list(TITLES).index(job["net"]), job["training"], job["batch"], PRECISIONS.index(job["precision"]))


def title_of(job):
    return f"{TITLES[job['net']]}, {'a training step' if job['training'] else 'inference'}, batch {job['batch']}"


# ---- cnnc ----

class Cnnc:
    def __init__(self, path, folder, device):
        self.path, self.folder, self.device = path, folder, device

    def net(self, name):
        return os.path.join(self.folder, "cases", name, "net.cnn")

    def say(self, *arguments, seconds=LIMIT):
        return subprocess.run([self.path, *arguments], capture_output=True, text=True, check=True, timeout=seconds).stdout

    def bench(self, job, seconds):
        """(row, all that bench says): the row is [who, median ms, kernels ms], or says why there is none."""
        options = ["--train"] if job["training"] else []
        options += [] if job["precision"] == "f32" else ["--precision", job["precision"]]
        try:
            said = json.loads(self.say("bench", self.net(job["net"]), "-q", "--device", self.device, "--json", "--batch", str(job["batch"]),
                                       *options, seconds=seconds))
        except subprocess.CalledProcessError as e:
            return ["cnnc: " + (e.stderr.strip() or "it failed").splitlines()[-1].removeprefix("cnnc: error: ")[:80], None, None], None
        except subprocess.TimeoutExpired:
            return [f"cnnc: not within {seconds:.0f} s", None, None], None
        except ValueError:
            return ["cnnc: its JSON cannot be read", None, None], None
        if job["training"]:
            return ["cnnc", said["ms"], said.get("kernels_ms")], said
        call = [c for c in said["calls"] if c["batch"] == job["batch"]][0]
        return ["cnnc", call["median_ms"], call.get("kernels_ms")], said

    def macs(self, job):
        macs = json.loads(self.say("report", self.net(job["net"]), "-q", "--format", "json"))["totals"]["macs"]
        return macs * job["batch"] * (3 if job["training"] else 1)


# ---- PyTorch ----

class Peers:
    """The process of peers.py; started when it is needed, and again after it had to be ended."""

    def __init__(self, o):
        self.command = [sys.executable, os.path.join(HERE, "peers.py"), "--device", o.torch_device, "--seconds", str(o.seconds)]
        self.process, self.useless = None, False

    def start(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0)

    def end(self):
        if self.process:
            self.process.kill()
            self.process.wait()
        self.process = None

    def answer(self, limit):
        """One line, or what is wrong."""
        line, until = b"", time.monotonic() + limit
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, until - time.monotonic()))
            if not ready:
                return None, f"not within {limit:.0f} s"
            part = os.read(self.process.stdout.fileno(), 65536)
            if not part:
                return None, "it crashed"
            line += part
        return json.loads(line), None

    def rows(self, job, compiled, limit):
        who = "torch.compile" if compiled else "PyTorch"
        if not self.process:
            self.start()
        try:
            self.process.stdin.write(json.dumps({**job, "compile": compiled}).encode() + b"\n")
            rows, wrong = self.answer(limit)
        except OSError:
            rows, wrong = None, "it crashed"
        if wrong:
            self.end()
            return [[f"{who}: {wrong}", None, None]]
        return rows


def has_torch():
    return subprocess.run([sys.executable, "-c", "import torch"], capture_output=True).returncode == 0


def torch_facts(device):
    """Version, and what the GPU can do: multiply-adds (as 2 operations) a second by precision; dense tensor cores."""
    code = ("import torch, json\np = torch.cuda.get_device_properties(0) if %r == 'cuda' else None\n"
            "print(json.dumps([torch.__version__, p and [p.major, p.minor, p.multi_processor_count]]))" % device)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if done.returncode:
        return None, None
    version, gpu = json.loads(done.stdout)
    if not gpu:
        return version, None
    major, minor, multiprocessors = gpu
    said = subprocess.run(["nvidia-smi", "--query-gpu=clocks.max.sm", "--format=csv,noheader,nounits"], capture_output=True, text=True).stdout
    if not re.match(r"\d", said):
        return version, None
    rate = 1e6 * float(said.splitlines()[0]) * multiprocessors
    lanes = 64 if (major, minor) == (8, 0) else 128
    tensor = {8: 1024, 9: 2048}.get(major, 4096)      # tf32 operations of a multiprocessor a clock
    return version, {"f32": 2 * lanes * rate, "tf32": tensor * rate, "bf16": 2 * tensor * rate}


def warm(o, jobs):
    """cnnc's kernels, and the jobs for torch.compile once, most important first, in o.warm processes each."""
    cnnc = Cnnc(o.cnnc, o.folder, o.device)
    with concurrent.futures.ThreadPoolExecutor(o.warm) as pool:
        kernels = [pool.submit(cnnc.bench, j, max(1, o.until - time.monotonic())) for j in jobs]
        if has_torch():
            warm_torch(o, jobs[:o.beside])
        for k in kernels:
            if time.monotonic() > o.until:
                k.cancel()
            else:
                k.result()


def warm_torch(o, jobs):
    lines = "".join(json.dumps({**j, "compile": True}) + "\n" for j in jobs).encode()
    command = [sys.executable, os.path.join(HERE, "peers.py"), "--device", o.torch_device]
    processes = []
    for i in range(o.warm):
        p = subprocess.Popen([*command, "--warm", f"{i}/{o.warm}"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        p.stdin.write(lines)
        p.stdin.close()
        processes.append(p)
    for p in processes:
        try:
            p.wait(max(0, o.until - time.monotonic()))
        except subprocess.TimeoutExpired:
            p.kill()
            p.wait()


# ---- the table ----

class Results:
    """Rows by job, those of an earlier run with the same cnnc too; every change goes to the files at once."""

    def __init__(self, o, head, peak, gpu):
        self.head, self.peak, self.rows = head, peak, {}
        folder = o.results or os.path.join(ROOT, "tests", "bench", "results")
        os.makedirs(folder, exist_ok=True)
        self.table = os.path.join(folder, "gpu-" + re.sub(r"[^a-z0-9]+", "-", gpu.lower()).strip("-") + ".md")
        self.kernels = os.path.join(o.results or o.folder, "kernels.jsonl")
        with open(o.cnnc, "rb") as f:
            stamp = [hashlib.sha256(f.read()).hexdigest(), head]
        self.log = os.path.join(o.folder, "times.jsonl")
        if not self.resume(stamp):
            self.rows = {}
            with open(self.log, "w") as f:
                f.write(json.dumps(stamp) + "\n")

    def resume(self, stamp):
        try:
            with open(self.log) as f:
                first, *rest = [json.loads(line) for line in f]
            for job, macs, rows in rest:
                self.rows[key_of(job)] = (job, macs, rows)
            return first == stamp
        except (OSError, ValueError):
            return False

    def add(self, job, macs, rows, said):
        self.rows[key_of(job)] = (job, macs, rows)
        with open(self.log, "a") as f:
            f.write(json.dumps([job, macs, rows]) + "\n")
        if said:
            with open(self.kernels, "a") as f:
                f.write(json.dumps({**job, "bench": said}) + "\n")
        for line in self.lines(job, macs, rows):
            print(line, flush=True)
        self.write()

    def lines(self, job, macs, rows):
        own = rows[0][1]
        for who, ms, kernels in rows:
            peak = f"{100 * 2 * macs / (1e-3 * kernels) / self.peak[job['precision']]:.1f} %" if kernels and self.peak else ""
            times = f"{ms / own:.2f} times as fast" if ms and own and who != "cnnc" else ""
            yield (f"| {title_of(job)} | {who} | {job['precision']} | {f'{ms:.4f} ms' if ms else ''} | "
                   f"{f'{kernels:.4f} ms' if kernels else ''} | {peak} | {times} |")

    def write(self):
        with open(self.table + ".new", "w") as f:
            f.write(self.head + "\n\n| what | who | precision | median | kernels | of peak | cnnc is |\n|---|---|---|---|---|---|---|\n")
            for k in sorted(self.rows):
                f.write("".join(line + "\n" for line in self.lines(*self.rows[k])))
        os.replace(self.table + ".new", self.table)


def measure(o, cnnc, peers, results, jobs):
    """How many jobs there was no time for."""
    for i, job in enumerate(jobs):
        left = o.until - time.monotonic()
        if left < 5:
            return len(jobs) - i
        if key_of(job) in results.rows:
            continue
        row, said = cnnc.bench(job, min(LIMIT, left))
        rows = [row]
        for compiled in [False, True] if peers and i < o.beside else []:
            left = o.until - time.monotonic()
            if left > 2:
                rows += peers.rows(job, compiled, min(LIMIT, left))
        results.add(job, cnnc.macs(job), rows, said)
    return 0


def options():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("cnnc")
    p.add_argument("folder", help="what tests/gpu/carry.sh made")
    p.add_argument("--net", default=",".join(TITLES))
    p.add_argument("--batch", default=",".join(map(str, BATCHES)), help="of inference")
    p.add_argument("--no-training", action="store_true")
    p.add_argument("--precision", default=",".join(PRECISIONS))
    p.add_argument("--seconds", type=float, default=0.5, help="of each of PyTorch's rows")
    p.add_argument("--within", type=float, default=3600, help="seconds for all")
    p.add_argument("--results", help="where the files go")
    p.add_argument("--device", default="cuda", help="of cnnc")
    p.add_argument("--torch-device", default="cuda", choices=["cuda", "cpu"])
    p.add_argument("--beside", type=int, default=1000, help="PyTorch only beside so many jobs")
    p.add_argument("--warm", type=int, default=0, help="only fill the caches of kernels, so many jobs at once")
    o = p.parse_args()
    o.until = time.monotonic() + o.within
    return o


def main():
    o = options()
    jobs = all_jobs(o.net.split(","), list(map(int, o.batch.split(","))), o.precision.split(","), not o.no_training)
    if o.warm:
        warm(o, jobs)
        return
    torch_there = has_torch()
    cnnc = Cnnc(o.cnnc, o.folder, o.device)
    version = cnnc.say("--version")
    gpu = re.search(r"^GPU: (.*) \(sm_", version, re.M)
    gpu = gpu.group(1) if gpu else "none"
    torch_version, peak = torch_facts(o.torch_device) if torch_there else (None, None)
    head = ". ".join(line for line in version.splitlines() if not line.startswith("CPU code")) + ". " + (f"PyTorch {torch_version} on {o.torch_device}." if torch_version else "No PyTorch.")
    results = Results(o, head, peak, gpu)
    peers = Peers(o) if torch_version else None
    left = measure(o, cnnc, peers, results, jobs)
    if peers:
        peers.end()
    results.write()
    print(results.table)
    if left:
        print(f"not ok times: none for {left} of {len(jobs)} parts; run it again to go on")
    sys.exit(1 if left else 0)


if __name__ == "__main__":
    main()

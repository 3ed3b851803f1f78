"""Runs cnnc over cases made by tests/torch/random_nets.py and compares with PyTorch's float64 results.

    python tests/diff/run_random.py CNNC DIR [--threads-check] [--jobs 2] [--keep-going]

Inference: |y - y64| at most 8 times PyTorch's own float32 error, but never asked to be below 2e-5 of the output's rms.
Training, after five steps: each tensor within 8 times PyTorch's own gap plus a rounding floor; tensors whose true gradient is
zero (a bias before BatchNorm) follow rounding alone and are left out, and with them running means. Losses likewise.
With --threads-check every case runs with 1 and with 2 threads, and the bits must be equal. Needs numpy and safetensors, not torch.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from safetensors.numpy import load_file


class Bad(Exception):
    pass


def call(args):
    r = subprocess.run(args, capture_output=True, text=True)
    if r.returncode:
        raise Bad(f"exit {r.returncode}: {' '.join(args)}\n{(r.stderr or r.stdout)[-1500:]}")
    return r


def compare(got, want, atol, what):
    if got.shape != want.shape:
        raise Bad(f"{what}: shape {got.shape}, expected {want.shape}")
    gap = np.abs(got.astype(np.float64) - want.astype(np.float64))
    worst = float(gap.max()) if gap.size else 0.0
    if not worst <= atol:
        at = np.unravel_index(int(np.nanargmax(gap)) if not np.isnan(gap).all() else 0, gap.shape)
        raise Bad(f"{what}: off by {worst:.3g} at {tuple(int(i) for i in at)} (allowed {atol:.3g}): {got[at]} instead of {want[at]}")
    return worst / atol if atol else 0.0


def run_case(cnnc, folder, out, threads):
    y = os.path.join(out, f"y{threads}.npy")
    call([cnnc, "run", os.path.join(folder, "net.cnn"), "--weights", os.path.join(folder, "weights.safetensors"), "--input",
          os.path.join(folder, "x.npy"), "--output", y, "--threads", str(threads), "-q"])
    return y


def check_run(cnnc, folder, case, out, threads_check):
    y = run_case(cnnc, folder, out, 1)
    if threads_check and open(y, "rb").read() != open(run_case(cnnc, folder, out, 2), "rb").read():
        raise Bad("1 and 2 threads give different bits")
    return compare(np.load(y), np.load(os.path.join(folder, "expect.npy")), case["atol"], "output")


def train(cnnc, folder, out, threads, steps):
    w, log = os.path.join(out, f"w{threads}.safetensors"), os.path.join(out, f"log{threads}.jsonl")
    call([cnnc, "train", os.path.join(folder, "net.cnn"), "--weights", os.path.join(folder, "weights.safetensors"), "-o", w,
          "--steps", str(steps), "--no-shuffle", "--log", log, "--threads", str(threads), "-q"])
    return w, log


def check_train(cnnc, folder, case, out, threads_check):
    w, log = train(cnnc, folder, out, 1, case["steps"])
    if threads_check and open(w, "rb").read() != open(train(cnnc, folder, out, 2, case["steps"])[0], "rb").read():
        raise Bad("1 and 2 threads give different bits")
    worst = 0.0
    lines = [json.loads(l) for l in open(log)]
    losses = [l["loss"] for l in lines if "step" in l]
    if len(losses) != case["steps"]:
        raise Bad(f"{len(losses)} steps in the log")
    for i, (a, b) in enumerate(zip(losses, case["losses"])):
        worst = max(worst, compare(np.array([a]), np.array([b]), 8 * case["loss_gap"] + 1e-5 * abs(b) + 1e-7, f"loss of step {i}"))
    if "tensors" not in case:
        return worst
    got, want = load_file(w), load_file(os.path.join(folder, "after.safetensors"))
    loose = any(t["zero_gradient"] for t in case["tensors"].values())
    for k, t in case["tensors"].items():
        if t["zero_gradient"] or (loose and k.endswith("running_mean")):
            continue
        if k not in got:
            raise Bad(f"no tensor {k} in the trained weights")
        worst = max(worst, compare(got[k], want[k], 8 * t["gap"] + 1e-5 * t["scale"] + 1e-8, k))
    return worst


def one(args, folder):
    case = json.load(open(os.path.join(folder, "case.json")))
    with tempfile.TemporaryDirectory() as out:
        try:
            check = check_train if "losses" in case else check_run
            return folder, check(args.cnnc, folder, case, out, args.threads_check), None
        except Bad as e:
            return folder, None, str(e)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("cnnc")
    p.add_argument("dir")
    p.add_argument("--threads-check", action="store_true")
    p.add_argument("--jobs", type=int, default=2)
    a = p.parse_args()
    folders = sorted(os.path.join(a.dir, f) for f in os.listdir(a.dir) if os.path.exists(os.path.join(a.dir, f, "case.json")))
    bad, worst = 0, (0.0, "")
    with ThreadPoolExecutor(a.jobs) as pool:
        for folder, ratio, why in pool.map(lambda f: one(a, f), folders):
            if why:
                bad += 1
                print(f"{folder}: {why}")
            elif ratio > worst[0]:
                worst = (ratio, folder)
    print(f"{len(folders) - bad} of {len(folders)} cases agree; the worst of these used {worst[0]:.0%} of its tolerance ({worst[1]})")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()

"""What the numbers of a GPU should be, without one: estimates of `cnnc bench --device cuda --static` as a table.

    python3 tests/gpu/static.py build/cnnc [--gpu sm_90]

Writes tests/bench/results/gpu-static.md. Needs NVRTC, no GPU; with PyTorch, its training steps by the same estimate, too. `at least` is
a roofline: the longer of a kernel's operations at the peak and its bytes at the memory's speed, summed; `estimate` adds what a launch
takes, blocks that do not fill the GPU and shares of the peaks that kernels reach, along the longest chain of launches that wait for each
other (codegen/gpu/roofline.c). `tensor cores twice as quick`: the same if products reached twice the share of the peak, which is what
wgmma and TMA could give over mma.sync at most."""
import argparse
import json
import math
import os
import subprocess

import static_torch

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ROWS = [("lenet", "LeNet-5", "training step", 64), ("tinyvgg", "TinyVGG", "training step", 32), ("cifar_vgg", "CIFAR VGG", "training step", 64),
        ("lenet", "LeNet-5", "inference", 1), ("resnet18", "ResNet-18", "inference", 1), ("resnet18", "ResNet-18", "inference", 32),
        ("vgg16", "VGG-16", "inference", 1), ("vgg16", "VGG-16", "inference", 32)]
PRECISIONS = ["f32", "tf32", "bf16"]


def functions(o, net, function, batch, precision):
    """What cnnc says of the net's functions, or None when it does not do that."""
    command = [o.cnnc, "bench", os.path.join(ROOT, "examples", net + ".cnn"), "-q", "--device", "cuda", "--static", "--json", "--gpu", o.gpu,
               "--batch", str(batch)]
    command += ["--train"] if function == "training step" else []
    command += [] if precision == "f32" else ["--precision", precision]
    done = subprocess.run(command, capture_output=True, text=True)
    return json.loads(done.stdout)[0] if done.returncode == 0 else None


def quicker_products(said, function):
    """What a call would save if tensor cores reached twice the share of their peak: roofline.c's gpu_estimate, twice."""
    peaks, share, memory, blocks_at_once = {"tf32": 494.7e12, "bf16": 989.4e12}, 0.35, 0.8 * 3.35e12, 132
    saved = 0
    for k in said["kernels"]:
        if k["function"] == function and k["products"] in peaks:
            waves = math.ceil(k["blocks"] / blocks_at_once)
            work = [max(k["flops"] / (peaks[k["products"]] * share * times), k["bytes"] / memory) for times in (1, 2)]
            saved += 1e6 * (work[0] - work[1]) * waves * blocks_at_once / k["blocks"]
    return saved


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("cnnc")
    p.add_argument("--gpu", default="sm_90")
    o = p.parse_args()
    lines, torch_lines, product = [], [], ""
    for net, title, function, batch in ROWS:
        peer = static_torch.step(net, batch) if function == "training step" and o.gpu == "sm_90" else None
        for precision in PRECISIONS:
            said = functions(o, net, function, batch, precision)
            if said:
                product = said["product"]
                f = [f for f in said["functions"] if f["function"] == function][0]
                what = f"| {title}, {function}, batch {batch} |"
                quicker = f"{f['estimate_us'] - quicker_products(said, function):.1f} us" if precision != "f32" and o.gpu == "sm_90" else ""
                lines.append(f"{what} {precision} | {f['launches']} | {f['bound_us']:.1f} us | {f['estimate_us']:.1f} us | {quicker} |")
                if peer and precision == "f32":
                    torch_lines.append(f"{what} {peer[0]} | {peer[1]:.1f} us | {peer[1] / f['estimate_us']:.1f} |")
    path = os.path.join(ROOT, "tests", "bench", "results", "gpu-static.md")
    with open(path, "w") as f:
        f.write(f"Estimates for {product}, made without a GPU by tests/gpu/static.py; nothing here was measured (what was:\n"
                "gpu-nvidia-h100.md). `at least` is a roofline, `estimate` adds launches, blocks that do not fill the GPU and the shares of the peaks that kernels reach\n"
                "(codegen/gpu/roofline.c); the last column lets products reach twice that share.\n\n"
                "| what | precision | launches | at least | estimate | tensor cores twice as quick |\n|---|---|---|---|---|---|\n")
        f.write("\n".join(lines) + "\n")
        if torch_lines:
            f.write("\nPyTorch in float32 as a CUDA graph by the same estimate (tests/gpu/static_torch.py): its kernels, their time, and that\n"
                    "divided by ours.\n\n| what | kernels, at least | estimate | times ours |\n|---|---|---|---|\n" + "\n".join(torch_lines) + "\n")
    print(path)


if __name__ == "__main__":
    main()

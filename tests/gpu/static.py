"""What the numbers of a GPU should be, without one: estimates of `cnnc bench --device cuda --static` as a table.

    python3 tests/gpu/static.py build/cnnc [--gpu sm_90]

Writes tests/bench/results/gpu-static.md. Needs NVRTC, no GPU. `at least` is a roofline: the longer of a kernel's operations at the
peak and its bytes at the memory's speed, summed; `estimate` adds what a launch takes, blocks that do not fill the GPU and shares of
the peaks that kernels reach, along the longest chain of launches that wait for each other (codegen/gpu/roofline.c)."""
import argparse
import json
import os
import subprocess

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


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("cnnc")
    p.add_argument("--gpu", default="sm_90")
    o = p.parse_args()
    lines, product = [], ""
    for net, title, function, batch in ROWS:
        for precision in PRECISIONS:
            said = functions(o, net, function, batch, precision)
            if said:
                product = said["product"]
                f = [f for f in said["functions"] if f["function"] == function][0]
                lines.append(f"| {title}, {function}, batch {batch} | {precision} | {f['launches']} | {f['bound_us']:.1f} us | {f['estimate_us']:.1f} us |")
    path = os.path.join(ROOT, "tests", "bench", "results", "gpu-static.md")
    with open(path, "w") as f:
        f.write(f"Estimates for {product}, made without a GPU by tests/gpu/static.py; nothing here was measured. `at least` is a roofline,\n"
                "`estimate` adds launches, blocks that do not fill the GPU and the shares of the peaks that kernels reach (codegen/gpu/roofline.c).\n\n"
                "| what | precision | launches | at least | estimate |\n|---|---|---|---|---|\n" + "\n".join(lines) + "\n")
    print(path)


if __name__ == "__main__":
    main()

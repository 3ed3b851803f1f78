"""Makes tests/torch/shapes.txt: output shapes that PyTorch gives for random windows, for tests/unit/test_passes_shape.c.

One case a line:  op nd  c h w d  out  kernel*3 stride*3 pad*3 dilation*3  groups mode  =  result
nd axes count of each triple (the rest are 1); mode: conv 0 numbers, 1 'same', 2 'valid'; pools: ceil_mode;
adaptive: `kernel` holds the output sizes, 0 = None. result: C and the sizes, or `error`.
Usage: python tests/torch/make_shapes.py > tests/torch/shapes.txt
"""
import random
import warnings

import torch
from torch import nn

warnings.simplefilter("ignore")
random.seed(7)
torch.set_num_threads(1)


def triple(v, fill=1):
    return list(v) + [fill] * (3 - len(v))


def build(op, nd, c, out, k, s, p, d, g, mode):
    names = {"conv": nn.Conv2d if nd == 2 else nn.Conv1d, "maxpool": nn.MaxPool2d if nd == 2 else nn.MaxPool1d,
             "avgpool": nn.AvgPool2d if nd == 2 else nn.AvgPool1d, "adaptive_avg": nn.AdaptiveAvgPool2d if nd == 2 else nn.AdaptiveAvgPool1d,
             "adaptive_max": nn.AdaptiveMaxPool2d if nd == 2 else nn.AdaptiveMaxPool1d}
    t = lambda v: tuple(v) if nd > 1 else v[0]
    if op == "conv":
        return names[op](c, out, t(k), t(s), [t(p), "same", "valid"][mode], t(d), g)
    if op == "maxpool":
        return names[op](t(k), t(s), t(p), t(d), False, bool(mode))
    if op == "avgpool":
        return names[op](t(k), t(s), t(p), bool(mode))
    return names[op](t([None if x == 0 else x for x in k]))


def case(op):
    nd = random.choice([2, 2, 2, 1])
    r = lambda lo, hi: [random.randint(lo, hi) for _ in range(nd)]
    c = random.choice([1, 2, 3, 4, 6])
    size = r(1, random.choice([6, 12, 33]))
    k, s = r(1, random.choice([3, 7])), r(1, random.choice([2, 4]))
    d = r(1, 3) if random.random() < 0.3 and op in ("conv", "maxpool") else [1] * nd
    p = r(0, 3) if op == "conv" else [random.randint(0, x // 2 + (random.random() < 0.05)) for x in k]
    g = random.choice([x for x in (1, 2, 3) if c % x == 0]) if op == "conv" else 1
    out = g * random.randint(1, 3) + (random.random() < 0.03)
    mode = random.choice([0, 0, 0, 1, 2]) if op == "conv" else random.randint(0, 1)
    if op == "conv" and mode == 1 and random.random() < 0.9:
        s = [1] * nd
    if op.startswith("adaptive"):
        k, s, p, mode = r(0, 9), [1] * nd, [0] * nd, 0
        if nd == 1:
            k = [max(1, k[0])]
    if mode == 2 or (mode == 1 and op == "conv"):
        p = [0] * nd
    try:
        y = build(op, nd, c, out, k, s, p, d, g, mode)(torch.zeros(1, c, *size))
        result = " ".join(str(x) for x in y.shape[1:])
    except Exception:
        result = "error"
    numbers = [nd, c, *triple(size), out, *triple(k), *triple(s), *triple(p, 0), *triple(d), g, mode]
    print(op, *numbers, "=", result)


for op, n in (("conv", 400), ("maxpool", 300), ("avgpool", 250), ("adaptive_avg", 60), ("adaptive_max", 60)):
    for _ in range(n):
        case(op)

"""Random valid nets: the .cnn text, the same net as a torch module, weights, an input, and what PyTorch computes.

    python tests/torch/random_nets.py run   DIR COUNT [--seed S] [--small]    inference cases
    python tests/torch/random_nets.py train DIR COUNT [--seed S] [--small]    five-training-step cases

A case is a folder DIR/SEED:
    net.cnn weights.safetensors x.npy expect.npy       expect: float64 PyTorch, stored as float64
    case.json                                          tolerance and facts (tests/diff/README.md)
train cases hold in addition y.npy (labels or targets), after.safetensors (parameters after five steps, float64 run) and
after.npy (the trained net's output for x in evaluation); their net.cnn has a train block.

`Maker` grows a net layer by layer: every candidate layer is built as a torch module and tried on zeros; what PyTorch
refuses is thrown away, so any net that comes out is valid by PyTorch's own judgement.
"""
import argparse
import json
import math
import os
import random
from collections import OrderedDict

import numpy as np
import torch
from torch import nn

MAX_ELEMENTS = 6000


class Residual(nn.Module):
    def __init__(self, body, shortcut):
        super().__init__()
        self.body = body
        if shortcut is not None:
            self.shortcut = shortcut

    def forward(self, x):
        return self.body(x) + (self.shortcut(x) if hasattr(self, "shortcut") else x)


class Concat(nn.Sequential):
    def forward(self, x):
        return torch.cat([m(x) for m in self], 1)


def int_text(v, maker):
    """An integer, now and then as an expression or a `let` name: PyTorch's module knows only the value."""
    rng = maker.rng
    if not maker.expressions or v < 0 or rng.random() > 0.12:
        return str(v)
    if rng.random() < 0.3:
        name = f"size{len(maker.lets)}"
        maker.lets.append(f"let {name} = {v}" if rng.random() < 0.5 else f"let {name} = {v + 1} - 1")
        return name
    return rng.choice([f"{v - 1} + 1", f"{2 * v} // 2", f"max(0, {v})", f"[0, {v}][1]", f"{v} if 1 < 2 else 9", f"int({v}.5)", f"(7, {v})[-1]", f"{v + 10} % 10" if v < 10 else f"{v}",
                       f"len(range({v}))", f"-(-{v})", f"{v} ** 1", f"abs({-v})", f"min({v}, {v + 3})", f"round({v}.2)"])


def value_text(v, maker):
    rng = maker.rng
    if isinstance(v, str):
        return repr(v) if rng.random() < 0.5 else '"' + v + '"'
    if isinstance(v, tuple):
        if len(set(v)) == 1 and v[0] is not None and rng.random() < 0.7:
            return int_text(v[0], maker)
        return "(" + ", ".join(value_text(e, maker) for e in v) + ")"
    if isinstance(v, int) and not isinstance(v, bool):
        return int_text(v, maker)
    return str(v)


class Maker:
    def __init__(self, seed, train=False, small=False):
        self.rng = random.Random(seed)
        self.train, self.small = train, small
        self.blocks, self.lets = [], []
        self.expressions = self.rng.random() < 0.5
        self.names = 0
        self.max_channels = 8 if small else 20
        self.max_elements = 1500 if small else MAX_ELEMENTS

    # ---- text ----
    def call(self, name, args, required, first_inferred=None):
        """args: (name, value, default) in signature order. first_inferred: may the first argument be left to inference."""
        rng = self.rng
        args = list(args)
        infer = rng.choice(["no", "no", "_", "lazy"]) if first_inferred else "no"
        if infer == "lazy":
            name, args, required = "Lazy" + name, args[1:], required - 1
        elif infer == "_":
            args[0] = (args[0][0], "_", None)
        positional = rng.choice([required, required, rng.randint(0, len(args))])
        parts = []
        i = 0
        while i < positional:
            key, v, default = args[i]
            parts.append("_" if v == "_" else value_text(v, self))
            i += 1
        # keywords: left out when they have their default, in any order
        rest = [a for j, a in enumerate(args[i:], i) if j < required or a[1] != a[2] or rng.random() < 0.15]
        rng.shuffle(rest)
        parts += [f"{k}={'_' if v == '_' else value_text(v, self)}" for k, v, d in rest]
        if required and name.replace("Lazy", "") in ("Conv2d", "Linear", "BatchNorm2d", "BatchNorm1d") and rng.random() < 0.06:
            parts.append(rng.choice(["device=None", "device='cpu'", "dtype=torch.float32", "dtype=None"]))
        prefix = rng.choice([""] * 8 + ["nn."] * 2 + ["torch.nn."])
        if not parts and rng.random() < 0.5:
            return prefix + name
        return f"{prefix}{name}({', '.join(parts)})"

    def pair(self, lo, hi):
        a = self.rng.randint(lo, hi)
        return (a, a) if self.rng.random() < 0.6 else (a, self.rng.randint(lo, hi))

    # ---- layers: each returns (text, module) or None ----
    def conv2d(self, s, out=None, same=False):
        rng = self.rng
        if len(s) != 3:
            return None
        c = s[0]
        k = self.pair(1, 5 if rng.random() < 0.4 else 3)
        out = out or rng.choice([1, 2, 3, 4, 5, 8, 10, 16, 17, c, 2 * c])
        out = min(out, self.max_channels)
        groups = rng.choice([g for g in range(1, c + 1) if c % g == 0 and out % g == 0]) if rng.random() < 0.35 else 1
        dil = self.pair(1, 2) if rng.random() < 0.25 else (1, 1)
        mode = rng.choice(["zeros"] * 7 + ["reflect", "replicate", "circular"])
        if same:
            k = rng.choice([(1, 1), (3, 3), (3, 3), (5, 5), (1, 3)])
            stride = (1, 1)
            padding = rng.choice(["same", tuple(d * (x - 1) // 2 for d, x in zip(dil, k))])
        else:
            stride = self.pair(1, 3) if rng.random() < 0.4 else (1, 1)
            padding = rng.choice([(0, 0), self.pair(0, 2), self.pair(1, 2), "valid", "same"])
            if padding == "same":
                stride = (1, 1)
        bias = rng.random() < 0.7
        args = [("in_channels", c, None), ("out_channels", out, None), ("kernel_size", k, None), ("stride", stride, (1, 1)),
                ("padding", padding, (0, 0)), ("dilation", dil, (1, 1)), ("groups", groups, 1), ("bias", bias, True),
                ("padding_mode", mode, "zeros")]
        m = nn.Conv2d(c, out, k, stride, padding, dil, groups, bias, mode)
        return self.call("Conv2d", args, 3, True), m

    def linear(self, s, out=None):
        f = s[-1]
        out = out or self.rng.choice([1, 2, 3, 5, 7, 10, 16, 17, f])
        bias = self.rng.random() < 0.8
        if f * out > (1500 if self.small else 20000):
            return None
        return self.call("Linear", [("in_features", f, None), ("out_features", out, None), ("bias", bias, True)], 2, True), nn.Linear(f, out, bias)

    def maxpool(self, s):
        if len(s) != 3:
            return None
        rng = self.rng
        k = self.pair(1, 3) if rng.random() < 0.7 else self.pair(2, 4)
        stride = k if rng.random() < 0.5 else self.pair(1, 3)
        pad = tuple(rng.randint(0, x // 2) for x in k) if rng.random() < 0.4 else (0, 0)
        dil = self.pair(1, 2) if rng.random() < 0.2 else (1, 1)
        ceil = rng.random() < 0.3
        args = [("kernel_size", k, None), ("stride", stride, k), ("padding", pad, (0, 0)), ("dilation", dil, (1, 1)),
                ("return_indices", False, False), ("ceil_mode", ceil, False)]
        return self.call("MaxPool2d", args, 1), nn.MaxPool2d(k, stride, pad, dil, False, ceil)

    def avgpool(self, s):
        if len(s) != 3:
            return None
        rng = self.rng
        k = self.pair(1, 3)
        stride = k if rng.random() < 0.5 else self.pair(1, 3)
        pad = tuple(rng.randint(0, x // 2) for x in k) if rng.random() < 0.5 else (0, 0)
        ceil, include, divisor = rng.random() < 0.3, rng.random() < 0.6, rng.choice([None, None, None, 2, 5])
        args = [("kernel_size", k, None), ("stride", stride, k), ("padding", pad, (0, 0)), ("ceil_mode", ceil, False),
                ("count_include_pad", include, True), ("divisor_override", divisor, None)]
        return self.call("AvgPool2d", args, 1), nn.AvgPool2d(k, stride, pad, ceil, include, divisor)

    def adaptive(self, s):
        if len(s) != 3:
            return None
        rng = self.rng
        out = rng.choice([(1, 1), (2, 2), self.pair(1, 5), (None, rng.randint(1, 4)), (rng.randint(1, 4), None)])
        kind = rng.choice(["Avg", "Max"])
        m = (nn.AdaptiveAvgPool2d if kind == "Avg" else nn.AdaptiveMaxPool2d)(out)
        return self.call(f"Adaptive{kind}Pool2d", [("output_size", out, "")], 1), m

    def batchnorm(self, s):
        if len(s) not in (1, 2, 3):
            return None
        rng = self.rng
        eps, momentum = rng.choice([1e-5, 1e-5, 1e-3, 0.01]), rng.choice([0.1, 0.1, 0.3, None, 0.01])
        affine = rng.random() < 0.8
        name = "BatchNorm2d" if len(s) == 3 else "BatchNorm1d"
        args = [("num_features", s[0], None), ("eps", eps, 1e-5), ("momentum", momentum, 0.1), ("affine", affine, True),
                ("track_running_stats", True, True)]
        m = getattr(nn, name)(s[0], eps, momentum, affine)
        return self.call(name, args, 1, len(s) == 3), m

    def activation(self, s):
        rng = self.rng
        u = lambda a, b: round(rng.uniform(a, b), 3)
        simple = ["ReLU", "ReLU6", "SELU", "SiLU", "Mish", "Hardswish", "Hardsigmoid", "Sigmoid", "Tanh", "LogSigmoid", "Softsign", "Tanhshrink"]
        kind = rng.choice(["ReLU"] * 6 + simple + ["LeakyReLU", "PReLU", "ELU", "CELU", "GELU", "Softplus", "Hardtanh", "Softshrink", "Hardshrink",
                                                   "Threshold", "GLU"] + ([] if self.train else ["RReLU"]))
        inplace = [("inplace", False, False)]
        if kind in simple:
            return self.call(kind, inplace if kind in ("ReLU", "ReLU6", "SiLU") else [], 0), getattr(nn, kind)()
        if kind == "LeakyReLU":
            v = u(0.01, 0.4)
            return self.call(kind, [("negative_slope", v, 0.01)] + inplace, 0), nn.LeakyReLU(v)
        if kind == "PReLU":
            n = rng.choice([1, s[0]])
            init = u(0.05, 0.5)
            return self.call(kind, [("num_parameters", n, 1), ("init", init, 0.25)], 0), nn.PReLU(n, init)
        if kind in ("ELU", "CELU"):
            v = u(0.3, 2)
            return self.call(kind, [("alpha", v, 1.0)] + inplace, 0), getattr(nn, kind)(v)
        if kind == "GELU":
            v = rng.choice(["none", "tanh"])
            return self.call(kind, [], 0) if v == "none" else f"GELU(approximate='{v}')", nn.GELU(v)
        if kind == "Softplus":
            b, t = u(0.5, 3), rng.choice([20, 2, 5])
            return self.call(kind, [("beta", b, 1.0), ("threshold", t, 20)], 0), nn.Softplus(b, t)
        if kind == "Hardtanh":
            a, b = u(-2, -0.1), u(0.1, 2)
            return self.call(kind, [("min_val", a, -1.0), ("max_val", b, 1.0)], 0), nn.Hardtanh(a, b)
        if kind in ("Softshrink", "Hardshrink"):
            v = u(0.05, 0.6)
            return self.call(kind, [("lambd", v, 0.5)], 0), getattr(nn, kind)(v)
        if kind == "Threshold":
            a, b = u(-0.5, 0.5), u(-1, 1)
            return self.call(kind, [("threshold", a, None), ("value", b, None)], 2), nn.Threshold(a, b)
        if kind == "RReLU":
            a, b = u(0.05, 0.2), u(0.2, 0.5)
            return self.call(kind, [("lower", a, 0.125), ("upper", b, 1 / 3)], 0), nn.RReLU(a, b)
        axes = [i for i in range(len(s)) if s[i] % 2 == 0]
        if not axes:
            return None
        axis = rng.choice(axes) + 1
        dim = axis if rng.random() < 0.5 else axis - len(s) - 1
        return self.call("GLU", [("dim", dim, -1)], 0), nn.GLU(dim)

    def softmax(self, s):
        axis = self.rng.randint(1, len(s))
        dim = axis if self.rng.random() < 0.5 else axis - len(s) - 1
        name = self.rng.choice(["Softmax", "LogSoftmax"])
        return self.call(name, [("dim", dim, "")], 1), getattr(nn, name)(dim)

    def dropout(self, s):
        if self.train:
            return None
        p = self.rng.choice([0.5, 0.1, 0, 1])
        return self.call("Dropout", [("p", p, 0.5), ("inplace", False, False)], 0), nn.Dropout(p)

    def flatten(self, s):
        start, end = 1, -1
        if len(s) == 3 and self.rng.random() < 0.3:
            start, end = self.rng.choice([(1, 2), (2, 3), (2, -1), (1, -2), (-2, -1)])
        return self.call("Flatten", [("start_dim", start, 1), ("end_dim", end, -1)], 0), nn.Flatten(start, end)

    def identity(self, s):
        return self.rng.choice(["Identity", "Identity()", "nn.Identity()"]), nn.Identity()

    # ---- containers ----
    def shape_after(self, module, s):
        module.eval()
        with torch.no_grad():
            return tuple(module(torch.zeros((2,) + tuple(s))).shape[1:])

    def tried(self, candidate, s):
        """(text, module, shape) if PyTorch takes it and sizes stay reasonable."""
        if candidate is None:
            return None
        text, module = candidate
        try:
            out = self.shape_after(module, s)
        except (RuntimeError, ValueError, IndexError):
            return None
        if 0 in out or math.prod(out) > self.max_elements or sum(p.numel() for p in module.parameters()) > (1200 if self.small else 25000):
            return None
        return text, module, out

    def same_layer(self, s):
        """A layer that keeps the shape."""
        for _ in range(20):
            make = self.rng.choice([lambda x: self.conv2d(x, x[0], True) if len(x) == 3 else self.linear(x, x[-1]), self.activation, self.batchnorm, self.identity, self.softmax if self.rng.random() < 0.1 else self.activation])
            got = self.tried(make(s), s)
            if got and got[2] == tuple(s):
                return got
        return self.tried(self.identity(s), s)

    def same_sequence(self, s, n):
        items = [self.same_layer(s) for _ in range(n)]
        return [("", t, m) for t, m, _ in items]

    def body(self, items, indent):
        """Text of (name, text, module) items, and their nn.Sequential with state_dict names."""
        lines, modules = [], OrderedDict()
        for i, (name, text, module) in enumerate(items):
            modules[name or str(i)] = module
            lines.append("    " * indent + (f"{name}: " if name else "") + text)
        return lines, nn.Sequential(modules)

    def braces(self, items):
        """{ ... } on one line or on several; returns text and module."""
        lines, seq = self.body(items, 0)
        if not lines:
            return "{ }", seq
        if any("\n" in l for l in lines) or self.rng.random() < 0.7:
            return "{\n" + "\n".join("    " + l.replace("\n", "\n    ") for l in lines) + "\n}", seq
        return "{ " + self.rng.choice([" ", ", ", "; "]).join(lines) + " }", seq

    def residual(self, s):
        rng = self.rng
        shortcut_text, shortcut = "", None
        if len(s) == 3 and rng.random() < 0.5:
            out, stride = min(rng.choice([s[0], 2 * s[0], 3, 8]), self.max_channels), rng.choice([1, 2])
            body = [("", f"Conv2d(_, {out}, 3, stride={stride}, padding=1, bias=False)", nn.Conv2d(s[0], out, 3, stride, 1, bias=False)),
                    ("", "BatchNorm2d(_)", nn.BatchNorm2d(out)), ("", "ReLU", nn.ReLU()),
                    ("", f"Conv2d({out}, {out}, 3, padding=1)", nn.Conv2d(out, out, 3, 1, 1))]
            items = [("", f"Conv2d({s[0]}, {out}, 1, {stride})", nn.Conv2d(s[0], out, 1, stride))]
            if rng.random() < 0.5:
                items.append(("", "BatchNorm2d()" if rng.random() < 0.5 else f"BatchNorm2d({out})", nn.BatchNorm2d(out)))
            text, shortcut = self.braces(items)
            shortcut_text = " shortcut " + text
        else:
            body = self.same_sequence(s, rng.randint(1, 4))
        text, seq = self.braces(body)
        return f"residual {text}{shortcut_text}", Residual(seq, shortcut)

    def concat(self, s):
        if len(s) != 3:
            return None
        rng = self.rng
        branches, modules = [], OrderedDict()
        for i in range(rng.randint(2, 4)):
            kind = rng.choice(["conv", "conv", "pool", "empty", "two"])
            if kind == "empty":
                items = []
            elif kind == "pool":
                p = rng.choice([("MaxPool2d(3, stride=1, padding=1)", nn.MaxPool2d(3, 1, 1)), ("AvgPool2d(3, 1, 1)", nn.AvgPool2d(3, 1, 1))])
                items = [("", *p)]
                c = self.conv2d(s, None, True)
                items += [("", *c)] if rng.random() < 0.5 else []
            else:
                c = self.conv2d(s, rng.randint(1, 6), True)
                items = [("", *c)]
                out = c[1].out_channels
                if kind == "two":
                    items += self.same_sequence((out,) + tuple(s[1:]), rng.randint(1, 3))
            text, seq = self.braces(items)
            branches.append("branch " + text)
            modules[str(i)] = seq
        inner = "\n".join("    " + b.replace("\n", "\n    ") for b in branches)
        return "concat {\n" + inner + "\n}", Concat(modules)

    def sequential(self, s):
        items = self.same_sequence(s, self.rng.randint(1, 3))
        lines, seq = self.body(items, 0)
        sep = self.rng.choice([", ", ",\n    "])
        prefix = self.rng.choice(["", "nn."])
        return f"{prefix}Sequential({sep.join(lines)})", seq

    def block(self, s):
        """A block definition and one use of it, with a parameter."""
        if len(s) != 3:
            return None
        rng = self.rng
        name, out, k = f"Block{len(self.blocks)}", rng.randint(1, min(8, self.max_channels)), rng.choice([1, 3, 5])
        act = rng.choice(["ReLU", "Tanh()", "nn.SiLU()"])
        with_bn = rng.random() < 0.5
        bn = "    BatchNorm2d(_)\n" if with_bn else ""
        self.blocks.append(f"block {name}(out, kernel=3, pad=1) {{\n    Conv2d(_, out, kernel, padding=pad)\n{bn}    {act}\n}}")
        args = f"{out}" if k == 3 else f"{out}, kernel={k}, pad={k} // 2" if rng.random() < 0.5 else f"pad={k // 2}, out={out}, kernel={k}"
        module = nn.Sequential(nn.Conv2d(s[0], out, k, padding=k // 2), *([nn.BatchNorm2d(out)] if with_bn else []),
                               {"R": nn.ReLU, "T": nn.Tanh, "n": nn.SiLU}[act[0]]())
        return f"{name}({args})", module

    def repeated(self, s):
        """repeat and for: several items of the enclosing sequence. Returns (text, modules)."""
        rng = self.rng
        if len(s) == 3 and rng.random() < 0.6:
            sizes = [rng.randint(1, min(8, self.max_channels)) for _ in range(rng.randint(2, 3))]
            c, modules = s[0], []
            for k in sizes:
                modules += [nn.Conv2d(c, k, 3, padding=1), nn.ReLU()]
                c = k
            return f"for c in {sizes} {{\n    Conv2d(_, c, 3, padding=1), ReLU\n}}", modules
        n = rng.randint(2, 3)
        if len(s) == 3:
            return f"repeat {n} {{ Conv2d(_, {s[0]}, 3, padding=1) Tanh() }}", [m for _ in range(n) for m in (nn.Conv2d(s[0], s[0], 3, padding=1), nn.Tanh())]
        return f"repeat {n} {{ Linear({s[-1]}, {s[-1]}), ReLU() }}", [m for _ in range(n) for m in (nn.Linear(s[-1], s[-1]), nn.ReLU())]

    def frozen(self, got):
        """In training, some layers keep their weights."""
        text, module, out = got
        if not self.train or not isinstance(module, (nn.Conv2d, nn.Linear)) or not text.endswith(")") or self.rng.random() > 0.08:
            return got
        module.requires_grad_(False)
        return text[:-1] + ", frozen=True)", module, out

    # ---- the whole net ----
    def input_shape(self):
        rng = self.rng
        kind = rng.random()
        big = 9 if self.small else 14
        if kind < 0.82:
            return (rng.choice([1, 1, 2, 3, 3, 4, 5, 8, 16, 17]) if not self.small else rng.randint(1, 4), rng.randint(1, big), rng.randint(1, big))
        if kind < 0.93:
            return (rng.choice([1, 2, 7, 10, 16, 17, 33]),)
        return (rng.randint(1, 6), rng.randint(1, 9))

    def net(self):
        rng = self.rng
        s = self.input = self.input_shape()
        items = []   # (name, text, [modules])
        pictures = [self.conv2d] * 6 + [self.maxpool] * 2 + [self.avgpool] * 2 + [self.adaptive, self.batchnorm, self.batchnorm] + [self.activation] * 5 + \
                   [self.softmax, self.dropout, self.flatten, self.identity, self.residual, self.residual, self.concat, self.concat, self.sequential,
                    self.block, self.block, self.linear]
        flat = [self.linear] * 5 + [self.batchnorm] + [self.activation] * 5 + [self.softmax, self.dropout, self.flatten, self.identity, self.residual, self.sequential]
        depth = rng.randint(1, 6 if self.small else 9)
        for _ in range(depth):
            if rng.random() < 0.07:
                text, modules = self.repeated(s)
                got = self.tried((text, nn.Sequential(*modules)), s)
                if got:
                    items.append(("", text, modules))
                    s = got[2]
                continue
            kept = len(self.blocks)
            got = self.tried(rng.choice(pictures if len(s) == 3 else flat)(s), s)
            if not got:
                del self.blocks[kept:]
                continue
            got = self.frozen(got)
            self.names += 1
            name = f"{rng.choice(['conv', 'layer', 'head_'])}{self.names}" if rng.random() < 0.12 else ""
            items.append((name, got[0], [got[1]]))
            s = got[2]
        needs_head = self.train and (len(s) != 1 and rng.random() < 0.85 or not any(p.requires_grad for _, _, ms in items for m in ms for p in m.parameters()))
        if needs_head or (len(s) == 3 and rng.random() < 0.45):
            if len(s) > 1:
                items.append(("", "Flatten", [nn.Flatten()]))
                s = (math.prod(s),)
            out = rng.randint(2, 10)
            text = self.call("Linear", [("in_features", s[0], None), ("out_features", out, None), ("bias", True, True)], 2, True)
            items.append(("", text, [nn.Linear(s[0], out)]))
            s = (out,)
        if not items:
            items.append(("", "ReLU", [nn.ReLU()]))
        self.style = self.pick_style(items)
        if self.style == "ordered":
            items = [(name or f"m{i}", text, ms) for i, (name, text, ms) in enumerate(items)]
        modules, index = OrderedDict(), 0
        for name, _, ms in items:
            for m in ms:
                modules[name or str(index)] = m
                index += 1
        self.output, self.items = s, items
        self.module = nn.Sequential(modules)
        return self

    def pick_style(self, items):
        """How the net is written: as a .cnn chain, or as PyTorch code or a printed model, where its layers allow that."""
        inner = [m for _, _, ms in items for top in ms for m in top.modules()]
        if self.blocks or self.lets or self.expressions or any("frozen" in text for _, text, _ in items) or any(len(ms) != 1 for _, _, ms in items) or any(isinstance(m, (Residual, Concat)) for m in inner):
            return "chain"
        style = self.rng.choice(["chain"] * 5 + ["pasted", "ordered", "printed"])
        if style == "pasted" and any(name for name, _, _ in items):
            return "chain"
        # print(AvgPool2d) leaves out what is not usual
        if style == "printed" and any(isinstance(m, nn.AvgPool2d) and (m.ceil_mode or not m.count_include_pad or m.divisor_override) for m in inner):
            return "chain"
        return style

    def layer_lines(self, items):
        return [(f"{n}: " if n else "") + t for n, t, _ in items]


def chain_text(maker):
    """Layers on lines of their own, some joined by commas and semicolons."""
    rng, texts, lines, i = maker.rng, maker.layer_lines(maker.items), [], 0
    while i < len(texts):
        line = texts[i]
        while i + 1 < len(texts) and "\n" not in line and rng.random() < 0.2:
            i += 1
            line += rng.choice([", ", "; "]) + texts[i]
        if maker.expressions and rng.random() < 0.06:
            line = rng.choice(["if True {{\n{}\n}}", "if 1 > 2 {{ ReLU }} else {{\n{}\n}}", "if not 3 == 3 {{ ReLU }} elif 2 in [1, 2] {{\n{}\n}} else {{ Tanh }}",
                               "repeat 1 {{\n{}\n}}", 'for k in ["only"] {{\n{}\n}}']).format(line)
        lines.append(line)
        i += 1
    return "\n".join(lines)


def python_call(text):
    """A layer as PyTorch code would have it: with a prefix and brackets."""
    text = text if text.startswith(("nn.", "torch.nn.")) else "nn." + text
    return text if text.endswith(")") else text + "()"


def text_of(maker, train_text=""):
    rng = maker.rng
    lines = ["# a random net, made by tests/torch/random_nets.py", f"input{maker.input if len(maker.input) > 1 else f'({maker.input[0]})'}"] + maker.lets + maker.blocks
    if maker.style == "printed":
        lines.append(str(maker.module))
    elif maker.style == "pasted":
        lines.append(rng.choice(["", "model = "]) + "nn.Sequential(\n    " + ",\n    ".join(python_call(t) for _, t, _ in maker.items) + rng.choice([",\n)", "\n)"]))
    elif maker.style == "ordered":
        inner = ",\n    ".join(f"('{n}', {python_call(t)})" for n, t, _ in maker.items)
        lines.append(f"net = nn.Sequential(OrderedDict([\n    {inner}\n]))")
    else:
        lines.append(chain_text(maker))
    return "\n".join(lines) + "\n" + train_text


def init_weights(module, g):
    """Weights that keep the signal's size, and running statistics that are not the trivial ones."""
    for m in module.modules():
        if isinstance(m, (nn.Conv2d, nn.Linear)):
            fan = m.weight[0].numel()
            m.weight.data = torch.randn(m.weight.shape, generator=g) * math.sqrt(1.5 / fan)
            if m.bias is not None:
                m.bias.data = torch.randn(m.bias.shape, generator=g) * 0.3
        elif isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)):
            if m.weight is not None:
                m.weight.data = torch.rand(m.weight.shape, generator=g) + 0.5
                m.bias.data = torch.randn(m.bias.shape, generator=g) * 0.3
            m.running_mean.data = torch.randn(m.running_mean.shape, generator=g) * 0.3
            m.running_var.data = torch.rand(m.running_var.shape, generator=g) + 0.5
            m.num_batches_tracked.fill_(int(torch.randint(0, 5, (1,), generator=g)))
        elif isinstance(m, nn.PReLU):
            m.weight.data = torch.rand(m.weight.shape, generator=g) * 0.5


def near_a_jump(module, x):
    """Whether some value comes so near a jump of Hardshrink or Threshold that float32 may fall on the other side."""
    found = []

    def hook(m, inputs):
        v = inputs[0].abs() - m.lambd if isinstance(m, nn.Hardshrink) else inputs[0] - m.threshold
        found.append(bool((v.abs() < 1e-4).any()) if v.numel() else False)

    handles = [m.register_forward_pre_hook(hook) for m in module.modules() if isinstance(m, (nn.Hardshrink, nn.Threshold))]
    with torch.no_grad():
        module(x)
    for h in handles:
        h.remove()
    return any(found)


def watch_flat_channels(module):
    """Fills the returned list when a BatchNorm meets a channel that is constant but not zero: it divides a rounding error by sqrt(eps)."""
    found = []

    def hook(m, inputs):
        x = inputs[0].detach().transpose(0, 1).flatten(1)
        mean, var = x.mean(1), x.var(1, unbiased=False)
        found.extend([1] if bool((var < 1e-6 * mean * mean).any()) else [])

    for m in module.modules():
        if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)):
            m.register_forward_pre_hook(hook)
    return found


def save_weights(path, module):
    from safetensors.torch import save_file
    save_file({k: v.contiguous() for k, v in module.state_dict().items()}, path)


def rms(t):
    return float(t.double().pow(2).mean().sqrt())


def run_case(seed, folder, small):
    import copy
    for attempt in range(100):
        maker = Maker(seed * 1000 + attempt, False, small).net()
        g = torch.Generator().manual_seed(seed)
        init_weights(maker.module, g)
        n = maker.rng.choice([1, 2, 3, 5] if small else [1, 1, 2, 3, 4, 7, 17])
        x = torch.randn((n,) + tuple(maker.input), generator=g)
        net32, net64 = maker.module.eval(), copy.deepcopy(maker.module).double().eval()
        with torch.no_grad():
            y64, y32 = net64(x.double()), net32(x)
        if not torch.isfinite(y64).all() or rms(y64) == 0 or near_a_jump(net64, x.double()):
            continue
        break
    else:
        raise SystemExit(f"no net for seed {seed}")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "net.cnn"), "w") as f:
        f.write(text_of(maker))
    save_weights(os.path.join(folder, "weights.safetensors"), net32)
    np.save(os.path.join(folder, "x.npy"), x.numpy())
    np.save(os.path.join(folder, "expect.npy"), y64.numpy().astype(np.float32 if small else np.float64))
    gap = float((y32.double() - y64).abs().max())
    with open(os.path.join(folder, "case.json"), "w") as f:
        json.dump({"seed": seed, "atol": max(8 * gap, 2e-5 * rms(y64)), "torch_gap": gap, "rms": rms(y64)}, f)


# ---- training ----
def pick_training(maker):
    """Texts and torch objects of a random loss, optimizer and schedule."""
    rng = maker.rng
    t = {}
    classes = maker.output[0]
    if len(maker.output) == 1 and classes > 1 and rng.random() < 0.65:
        smoothing = rng.choice([0.0, 0.0, 0.1, 0.3])
        t["loss"] = "CrossEntropyLoss()" if not smoothing else f"CrossEntropyLoss(label_smoothing={smoothing})"
        t["criterion"] = nn.CrossEntropyLoss(label_smoothing=smoothing)
        t["labels"] = True
    else:
        t["loss"], t["criterion"], t["labels"] = "MSELoss()", nn.MSELoss(), False
    kind = rng.choice(["SGD", "SGD", "Adam", "AdamW", "RMSprop"])
    kw = {"lr": rng.choice([0.05, 0.02, 0.1]) if kind == "SGD" else rng.choice([0.003, 0.01])}
    if kind == "SGD" and rng.random() < 0.7:
        kw["momentum"] = rng.choice([0.9, 0.5])
        if rng.random() < 0.4:
            kw["nesterov"] = True
        elif rng.random() < 0.4:
            kw["dampening"] = 0.2
    if kind in ("Adam", "AdamW") and rng.random() < 0.4:
        kw["betas"] = (0.8, 0.95)
    if kind == "RMSprop":
        if rng.random() < 0.4:
            kw["momentum"] = 0.8
        if rng.random() < 0.3:
            kw["centered"] = True
        if rng.random() < 0.3:
            kw["alpha"] = 0.9
    if kind != "SGD":
        kw["eps"] = rng.choice([1e-8, 1e-6, 1e-3]) if kind != "RMSprop" else rng.choice([1e-6, 1e-3])
    if rng.random() < 0.4:
        kw["weight_decay"] = rng.choice([0.01, 5e-4, 0.1])
    t["kind"], t["kw"] = kind, kw
    t["optimizer"] = f"{kind}({', '.join(f'{k}={v}' for k, v in kw.items())})"
    t["make_optimizer"] = lambda ps: getattr(torch.optim, kind)(ps, **kw)
    t["schedule"], t["make_schedule"], t["every_step"] = None, None, False
    S = torch.optim.lr_scheduler
    choice = rng.choice(["none"] * 4 + ["step", "multi", "exp", "cos", "one"])
    if choice == "step":
        t["schedule"], t["make_schedule"] = "StepLR(step_size=1, gamma=0.5)", lambda o, total: S.StepLR(o, 1, 0.5)
    elif choice == "multi":
        t["schedule"], t["make_schedule"] = "MultiStepLR(milestones=[1, 3], gamma=0.3)", lambda o, total: S.MultiStepLR(o, [1, 3], 0.3)
    elif choice == "exp":
        t["schedule"], t["make_schedule"] = "ExponentialLR(gamma=0.7)", lambda o, total: S.ExponentialLR(o, 0.7)
    elif choice == "cos":
        t["schedule"], t["make_schedule"] = "CosineAnnealingLR(T_max=4)", lambda o, total: S.CosineAnnealingLR(o, 4)
    elif choice == "one" and (kind != "RMSprop" or "momentum" in kw):
        lr = kw["lr"]
        t["schedule"], t["every_step"] = f"OneCycleLR(max_lr={lr})", True
        t["make_schedule"] = lambda o, total: S.OneCycleLR(o, max_lr=lr, total_steps=total)
    return t


STEPS, EPOCHS = 5, 5


def five_steps(module, t, x, y, batch):
    """Trains in place; returns losses; per parameter, the largest gradient seen; each step's learning rate and momentum (or beta1)."""
    per_epoch = (len(x) + batch - 1) // batch
    opt = t["make_optimizer"](module.parameters())
    schedule = t["make_schedule"](opt, EPOCHS * per_epoch) if t["make_schedule"] else None
    losses, largest, rates, step = [], {k: 0.0 if p.requires_grad else 1.0 for k, p in module.named_parameters()}, [], 0
    module.train()
    while step < STEPS:
        for i in range(0, len(x), batch):
            if step == STEPS:
                break
            opt.zero_grad()
            loss = t["criterion"](module(x[i:i + batch]), y[i:i + batch])
            loss.backward()
            for k, p in module.named_parameters():
                largest[k] = max(largest[k], float(p.grad.abs().max()) if p.grad is not None else 0.0)
            group = opt.param_groups[0]
            rates.append((float(group["lr"]), float(group["betas"][0] if "betas" in group else group["momentum"])))
            opt.step()
            if schedule and t["every_step"]:
                schedule.step()
            losses.append(float(loss))
            step += 1
        if schedule and not t["every_step"] and step < STEPS:
            schedule.step()
    return losses, largest, rates


def float32_runs(module, t, x, y, batch, g):
    """PyTorch's float32 training, three ways whose roundings differ: one run's gap alone is a matter of luck."""
    import copy
    runs = []
    for way in ("onednn", "native", "last bit"):
        m = copy.deepcopy(module)
        if way == "last bit":
            for p in m.parameters():
                p.data *= 1 + 6e-8 * torch.randn(p.shape, generator=g)
        with torch.backends.mkldnn.flags(enabled=way != "native"):
            losses, _, _ = five_steps(m, t, x, y, batch)
        runs.append((m, losses))
    return runs


def train_case(seed, folder, small):
    import copy
    for attempt in range(200):
        maker = Maker(seed * 1000 + attempt, True, small).net()
        if not any(p.requires_grad for p in maker.module.parameters()):
            continue
        g = torch.Generator().manual_seed(seed)
        init_weights(maker.module, g)
        rng = maker.rng
        t = pick_training(maker)
        batch = rng.choice([2, 3, 4, 8] if small else [2, 4, 8, 16, 17])
        n = 2 * batch + max(2, batch // 2) if batch > 2 else 2 * batch   # a smaller last batch, never of one sample
        x = torch.randn((n,) + tuple(maker.input), generator=g)
        if t["labels"]:
            y = torch.randint(0, maker.output[0], (n,), generator=g)
        else:
            y = torch.randn((n,) + tuple(maker.output), generator=g)
        net64 = copy.deepcopy(maker.module).double()
        flat = watch_flat_channels(net64)
        y64 = y if t["labels"] else y.double()
        try:
            losses, largest, rates = five_steps(net64, t, x.double(), y64, batch)
            float32 = float32_runs(maker.module, t, x, y, batch, g)
        except (ValueError, RuntimeError):
            continue
        if not all(math.isfinite(v) and v < 1e4 for v in losses) or flat or near_a_jump(net64.eval(), x.double()):
            continue
        if small and t["kind"] != "SGD" and any(v < 1e-9 for v in largest.values()):
            continue   # a gradient that is zero but for rounding, which these optimizers blow up: no two machines agree
        with torch.no_grad():
            after64 = net64.eval()(x.double())
            after32 = [m.eval()(x) for m, _ in float32]
        if torch.isfinite(after64).all():
            break
    else:
        raise SystemExit(f"no net for seed {seed}")
    os.makedirs(folder, exist_ok=True)
    block = ["train {", '    data = Npy("x.npy", "y.npy")', f"    epochs = {EPOCHS}", f"    batch_size = {batch}", f"    loss = {t['loss']}",
             f"    optimizer = {t['optimizer']}"] + ([f"    schedule = {t['schedule']}"] if t["schedule"] else []) + ["}", ""]
    with open(os.path.join(folder, "net.cnn"), "w") as f:
        f.write(text_of(maker, "\n" + "\n".join(block)))
    save_weights(os.path.join(folder, "weights.safetensors"), maker.module)
    np.save(os.path.join(folder, "x.npy"), x.numpy())
    np.save(os.path.join(folder, "y.npy"), y.numpy())
    np.save(os.path.join(folder, "expect.npy"), after64.numpy().astype(np.float32 if small else np.float64))
    s64, s32 = net64.state_dict(), [m.state_dict() for m, _ in float32]
    tensors = {}
    for k, v in s64.items():
        gap = max(float((s[k].double() - v.double()).abs().max()) for s in s32) if v.numel() else 0.0
        scale = float(v.double().abs().max()) if v.numel() else 0.0
        zero = k in largest and largest[k] < 1e-9
        tensors[k] = {"gap": gap, "scale": scale, "zero_gradient": zero}
    if not small:
        from safetensors.torch import save_file
        save_file({k: v.double().contiguous() for k, v in s64.items()}, os.path.join(folder, "after.safetensors"))
    gap = max(float((y32.double() - after64).abs().max()) for y32 in after32)
    case = {"seed": seed, "atol": max(8 * gap, 1e-4 * rms(after64)), "rms": rms(after64), "torch_gap": gap, "losses": losses,
            "loss_gap": max(abs(a - b) for _, other in float32 for a, b in zip(losses, other)), "steps": STEPS,
            "batch": batch, "lr": [r[0] for r in rates], "momentum": [r[1] for r in rates]}
    if not small:
        case["tensors"] = tensors
    with open(os.path.join(folder, "case.json"), "w") as f:
        json.dump(case, f)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("kind", choices=["run", "train"])
    p.add_argument("dir")
    p.add_argument("count", type=int)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--small", action="store_true", help="few parameters: for cases that are committed")
    a = p.parse_args()
    torch.set_num_threads(1)
    for seed in range(a.seed, a.seed + a.count):
        (run_case if a.kind == "run" else train_case)(seed, os.path.join(a.dir, f"{a.kind}{seed:04d}"), a.small)


if __name__ == "__main__":
    main()

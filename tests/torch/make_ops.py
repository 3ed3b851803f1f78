"""Makes tests/golden/ops/*.txt: what PyTorch computes in float64 for every op row of ir/ops.def, over awkward shapes.

Run from the repository root: python tests/torch/make_ops.py   (needs torch; the tests themselves do not)

A file is a list of cases, one node each:
    case NAME                      a line for people
    op TEXT key=value,value ...    the op and its attributes, spelled as the fields of ir/graph.h
    in gen SEED LEVELS DENOM SHAPE an input made by `gen` below (tests/unit/test_ir_ref.c makes the same numbers)
    in data SHAPE : values         an input given outright
    in none                        an absent optional input
    out SHAPE : values             one line per output; `out any` is not compared
"""
import math
import os
import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
OUT = os.path.join(os.path.dirname(__file__), "..", "golden", "ops")
M32 = 0xFFFFFFFF


def mix(x):
    x ^= x >> 16
    x = x * 0x7FEB352D & M32
    x ^= x >> 15
    x = x * 0x846CA68B & M32
    return x ^ x >> 16


class Gen:
    """A tensor both sides can make: element i is ((mix(seed * 0x9E3779B9 + i) >> 8) % levels - levels / 2) / denom."""

    def __init__(self, seed, shape, levels=2047, denom=512):
        self.seed, self.shape, self.levels, self.denom = seed, tuple(shape), levels, denom
        n = math.prod(self.shape)
        v = [((mix((seed * 0x9E3779B9 + i) & M32) >> 8) % levels - levels // 2) / denom for i in range(n)]
        self.t = torch.tensor(v).reshape(self.shape)

    def text(self):
        return f"gen {self.seed} {self.levels} {self.denom} {shape_text(self.shape)}"


def shape_text(s):
    return ",".join(str(int(d)) for d in s) if len(s) else "scalar"


def number(v):
    v = float(v)
    return repr(int(v)) if v == int(v) and abs(v) < 1e9 else f"{v:.11g}"


def data_text(t):
    if t is None:
        return "none"
    t = torch.as_tensor(t, dtype=torch.float64).detach()
    return f"{shape_text(t.shape)} : " + " ".join(number(v) if math.isfinite(v) else str(float(v)) for v in t.flatten().tolist())


class File:
    def __init__(self, name):
        self.name, self.lines = name, []

    def case(self, name, op, attrs, ins, outs):
        self.lines += [f"case {name}", "op " + op + "".join(f" {k}={v}" for k, v in attrs.items())]
        for i in ins:
            self.lines.append("in " + (i.text() if isinstance(i, Gen) else "none" if i is None else "data " + data_text(i)))
        for o in outs:
            self.lines.append("out " + ("any" if o is None else data_text(o)))

    def save(self):
        with open(os.path.join(OUT, self.name), "w") as f:
            f.write(f"# made by tests/torch/make_ops.py with torch {torch.__version__.split('+')[0]}\n" + "\n".join(self.lines) + "\n")


def grads(y, dy, *leaves):
    return torch.autograd.grad(y, leaves, dy, retain_graph=True)


def leaf(g):
    return (g.t if isinstance(g, Gen) else torch.as_tensor(g)).clone().requires_grad_()


def csv(v):
    return ",".join(str(int(x)) for x in v)


def conv_cases():
    f = File("conv.txt")
    # n, c, k, size, kernel, stride, padding, dilation, groups, bias
    table = [
        (1, 1, 1, (1, 1), (1, 1), (1, 1), (0, 0), (1, 1), 1, True),
        (2, 3, 4, (5, 7), (3, 3), (1, 1), (1, 1), (1, 1), 1, True),
        (2, 3, 2, (7, 6), (3, 2), (2, 3), (1, 0), (1, 1), 1, False),
        (1, 4, 6, (6, 5), (3, 3), (1, 2), (2, 2), (2, 1), 2, True),
        (3, 3, 3, (5, 5), (2, 2), (1, 1), (0, 1), (1, 2), 3, False),
        (1, 2, 4, (4, 9), (1, 5), (1, 2), (0, 4), (1, 2), 2, True),
        (1, 2, 3, (8, 8), (3, 3), (2, 2), (1, 1), (2, 2), 1, False),   # stride and dilation share a factor
        (2, 1, 2, (3, 3), (3, 3), (4, 4), (3, 3), (1, 1), 1, True),    # windows wholly in the padding, stride > kernel
        (1, 2, 2, (6, 1), (2, 1), (3, 1), (0, 0), (1, 1), 1, True),    # rows no window reaches
        (2, 3, 4, (9,), (3,), (2,), (1,), (2,), 1, True),
        (1, 2, 2, (4,), (4,), (1,), (0,), (1,), 2, False),
        (1, 2, 3, (4, 3, 5), (2, 3, 1), (1, 2, 2), (1, 1, 0), (2, 1, 1), 1, True),
        (2, 2, 2, (3, 4, 4), (2, 2, 2), (2, 1, 2), (0, 1, 1), (1, 2, 1), 2, False),
    ]
    for i, (n, c, k, size, ker, st, pad, dil, g, bias) in enumerate(table):
        nd = len(size)
        x, w = Gen(10 * i + 1, (n, c) + size), Gen(10 * i + 2, (k, c // g) + ker)
        b = Gen(10 * i + 3, (k,)) if bias else None
        attrs = dict(nd=nd, kernel=csv(ker), stride=csv(st), pad_lo=csv(pad), pad_hi=csv(pad), dilation=csv(dil), groups=g,
                     in_channels=c, out_channels=k)
        X, W = leaf(x), leaf(w)
        y = (F.conv1d, F.conv2d, F.conv3d)[nd - 1](X, W, b.t if b else None, st, pad, dil, g)
        dy = Gen(10 * i + 4, y.shape)
        dx, dw = grads(y, dy.t, X, W)
        f.case(f"conv {i}", "conv", attrs, [x, w, b], [y])
        f.case(f"conv {i} data gradient", "conv.dx", attrs, [dy, w, x], [dx])
        f.case(f"conv {i} weight gradient", "conv.dw", attrs, [x, dy, w], [dw])
    # padding='same' with an even span: the extra column goes right
    x, w = Gen(201, (1, 2, 5, 6)), Gen(202, (3, 2, 2, 4))
    X, W = leaf(x), leaf(w)
    y = F.conv2d(X, W, padding="same")
    dy = Gen(203, y.shape)
    dx, dw = grads(y, dy.t, X, W)
    attrs = dict(nd=2, kernel="2,4", stride="1,1", pad_lo="0,1", pad_hi="1,2", dilation="1,1", groups=1, in_channels=2, out_channels=3)
    f.case("same", "conv", attrs, [x, w, None], [y])
    f.case("same data gradient", "conv.dx", attrs, [dy, w, x], [dx])
    f.case("same weight gradient", "conv.dw", attrs, [x, dy, w], [dw])
    for i, (lead, c, k, bias) in enumerate([((3,), 5, 4, True), ((1,), 1, 1, False), ((2, 3), 4, 3, True), ((2, 2, 3), 3, 5, True)]):
        x, w = Gen(300 + i, lead + (c,)), Gen(310 + i, (k, c))
        b = Gen(320 + i, (k,)) if bias else None
        X, W, B = leaf(x), leaf(w), leaf(b if b else torch.zeros(k))
        y = F.linear(X, W, B)
        dy = Gen(330 + i, y.shape)
        dx, dw, db = grads(y, dy.t, X, W, B)
        attrs = {"in": c, "out": k}
        f.case(f"linear {i}", "linear", attrs, [x, w, b], [y])
        f.case(f"linear {i} data gradient", "linear.dx", attrs, [dy, w], [dx])
        f.case(f"linear {i} weight gradient", "linear.dw", attrs, [x, dy], [dw])
        f.case(f"linear {i} bias gradient", "sum.keep", dict(axis=len(lead)), [dy], [db])
    dy = Gen(340, (2, 3, 4, 2))
    f.case("channel sums", "sum.keep", dict(axis=1), [dy], [dy.t.sum((0, 2, 3))])
    f.save()


def pool_cases():
    f = File("pool.txt")
    # size, kernel, stride, padding, dilation, ceil
    table = [
        ((4, 6), (2, 2), (2, 2), (0, 0), (1, 1), False), ((5, 5), (2, 2), (2, 2), (0, 0), (1, 1), False),
        ((5, 5), (2, 2), (2, 2), (0, 0), (1, 1), True), ((6, 7), (3, 3), (2, 2), (0, 1), (1, 1), True),
        ((4, 4), (3, 3), (2, 2), (1, 1), (1, 1), True), ((7, 4), (3, 3), (2, 3), (1, 1), (1, 1), True),
        ((5, 5), (3, 3), (1, 1), (1, 1), (1, 1), False), ((7, 9), (2, 3), (3, 1), (1, 1), (2, 2), False),
        ((8, 8), (3, 2), (2, 2), (1, 0), (2, 3), True), ((3, 1), (2, 1), (5, 1), (1, 0), (1, 1), False),
        ((1, 1), (1, 1), (1, 1), (0, 0), (1, 1), False), ((9, 7), (3, 3), (4, 4), (0, 0), (1, 1), True),
        ((9,), (3,), (2,), (1,), (2,), True), ((6,), (4,), (3,), (2,), (1,), False),
        ((4, 5, 3), (2, 3, 2), (2, 1, 2), (1, 1, 0), (1, 1, 1), True),
    ]
    n = 0
    for i, (size, k, s, p, d, ceil) in enumerate(table):
        nd = len(size)
        for levels, denom in ((2047, 512), (5, 2)):   # the second has many ties
            n += 1
            x = Gen(500 + n, (2, 2) + size, levels, denom)
            X = leaf(x)
            pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[nd - 1]
            y, index = pool(X, k, s, p, d, ceil, return_indices=True)
            dy = Gen(600 + n, y.shape)
            dx, = grads(y, dy.t, X)
            attrs = dict(nd=nd, kernel=csv(k), stride=csv(s), pad=csv(p), dilation=csv(d), ceil_mode=int(ceil))
            f.case(f"max {i}", "maxpool", attrs, [x], [y, index])
            f.case(f"max {i} gradient", "maxpool.dx", attrs, [dy, index, x], [dx])
        if max(d) > 1:
            continue
        for include, divisor in ((True, 0), (False, 0), (True, 3)):
            if divisor and nd == 1:
                continue
            n += 1
            x = Gen(500 + n, (1, 2) + size)
            X = leaf(x)
            pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[nd - 1]
            y = pool(X, k, s, p, ceil, include) if nd == 1 else pool(X, k, s, p, ceil, include, divisor or None)
            dy = Gen(600 + n, y.shape)
            dx, = grads(y, dy.t, X)
            attrs = dict(nd=nd, kernel=csv(k), stride=csv(s), pad=csv(p), dilation=csv(d), ceil_mode=int(ceil),
                         count_include_pad=int(include), divisor_override=divisor)
            f.case(f"average {i} include={include} divisor={divisor}", "avgpool", attrs, [x], [y])
            f.case(f"average {i} gradient", "avgpool.dx", attrs, [dy, x], [dx])
    x = torch.tensor([[[[1.0, float("nan"), 2.0], [-math.inf, -math.inf, 0.0], [-math.inf, -math.inf, 5.0]]]])
    y, index = F.max_pool2d(x, 2, 1, return_indices=True)
    f.case("max with NaN and -inf", "maxpool", dict(nd=2, kernel="2,2", stride="1,1", pad="0,0", dilation="1,1"), [x], [y, index])
    for i, (size, out) in enumerate([((7, 5), (3, 2)), ((5, 7), (7, 9)), ((4, 4), (1, 1)), ((6, 3), (0, 2)), ((1, 1), (3, 2)),
                                     ((10,), (4,)), ((3, 5, 4), (2, 3, 4))]):
        nd = len(size)
        target = tuple(o or None for o in out)
        for kind in ("avg", "max"):
            x = Gen(800 + i, (2, 2) + size, *((2047, 512) if kind == "avg" else (7, 2)))
            X = leaf(x)
            attrs = dict(nd=nd, out=csv(out))
            if kind == "avg":
                y = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)[nd - 1](X, target if nd > 1 else target[0])
                index = None
            else:
                pool = (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)[nd - 1]
                y, index = pool(X, tuple(t or s for t, s in zip(target, size)), return_indices=True)
            dy = Gen(820 + i, y.shape)
            dx, = grads(y, dy.t, X)
            f.case(f"adaptive {kind} {i}", f"adaptive_{kind}", attrs, [x], [y] + ([index] if kind == "max" else []))
            f.case(f"adaptive {kind} {i} gradient", f"adaptive_{kind}.dx", attrs, [dy] + ([index] if kind == "max" else []) + [x], [dx])
    f.save()


def norm_cases():
    f = File("norm.txt")
    for i, (shape, affine, eps, momentum) in enumerate([((4, 3), True, 1e-5, 0.1), ((2, 3, 4, 5), True, 1e-5, 0.1), ((3, 2, 5), False, 1e-3, 0.3),
                                                        ((2, 2, 2, 3, 2), True, 1e-2, None), ((1, 2, 3, 1), False, 1e-5, 1.0)]):
        c = shape[1]
        x = Gen(900 + 10 * i, shape)
        gamma, beta = (Gen(901 + 10 * i, (c,)), Gen(902 + 10 * i, (c,))) if affine else (None, None)
        running, var0, count = Gen(903 + 10 * i, (c,)), Gen(904 + 10 * i, (c,)).t.abs() + 0.5, torch.tensor(2.0)
        bn = torch.nn.BatchNorm1d(c, eps, momentum, affine) if len(shape) < 4 else (torch.nn.BatchNorm2d, torch.nn.BatchNorm3d)[len(shape) - 4](c, eps, momentum, affine)
        if affine:
            bn.weight.data, bn.bias.data = gamma.t.clone(), beta.t.clone()
        bn.running_mean.data, bn.running_var.data = running.t.clone(), var0.clone()
        bn.num_batches_tracked.fill_(2)
        attrs = dict(features=c, eps=eps, momentum=-1 if momentum is None else momentum)
        f.case(f"inference {i}", "batchnorm", attrs, [x, gamma, beta, running, var0], [bn.eval()(x.t)])
        scale = (gamma.t if affine else torch.ones(c)) / torch.sqrt(var0 + eps)
        w, b = Gen(905 + 10 * i, (c, 2, 3)), Gen(906 + 10 * i, (c,))
        shift0 = (beta.t if affine else torch.zeros(c)) - running.t * scale
        f.case(f"folded weight {i}", "fold.weight", attrs, [w, gamma, var0], [w.t * scale[:, None, None]])
        f.case(f"folded bias {i}", "fold.bias", attrs, [b, gamma, beta, running, var0], [b.t * scale + shift0])
        f.case(f"folded scale {i}", "fold.weight", attrs, [None, gamma, var0], [scale])
        f.case(f"folded shift {i}", "fold.bias", attrs, [None, gamma, beta, running, var0], [shift0])
        f.case(f"affine {i}", "affine", {}, [x, scale, shift0], [bn(x.t)])
        X = leaf(x)
        y = bn.train()(X)
        dims = [d for d in range(len(shape)) if d != 1]
        mean, var = x.t.mean(dims), x.t.var(dims, unbiased=False)
        f.case(f"statistics {i}", "bn.stats", attrs, [x], [mean, var])
        f.case(f"training {i}", "bn.train", attrs, [x, gamma, beta, mean, var], [y])
        f.case(f"running mean {i}", "bn.running", dict(attrs, track=0), [running, mean, count, x], [bn.running_mean])
        f.case(f"running variance {i}", "bn.running", dict(attrs, track=1), [var0, var, count, x], [bn.running_var])
        f.case(f"count {i}", "count", {}, [count], [bn.num_batches_tracked])
        dy = Gen(907 + 10 * i, shape)
        xhat = F.batch_norm(x.t, None, None, None, None, True, 0, eps)
        dbeta, dgamma = dy.t.sum(dims), (dy.t * xhat).sum(dims)
        if affine:
            dx, dg, db = grads(y, dy.t, X, bn.weight, bn.bias)
            assert torch.allclose(dg, dgamma) and torch.allclose(db, dbeta)
        else:
            dx, = grads(y, dy.t, X)
        f.case(f"gradient sums {i}", "bn.sums", attrs, [dy, x, mean, var], [dbeta, dgamma])
        f.case(f"gradient {i}", "bn.dx", attrs, [dy, x, gamma, mean, var, dbeta, dgamma], [dx])
    f.save()


def act_cases():
    f = File("act.txt")
    N = torch.nn
    # text, module, numbers in signature order, kinks, whether the gradient reads y
    table = [
        ("relu", N.ReLU(), [], [0], True), ("relu6", N.ReLU6(), [], [0, 6], True), ("leaky_relu", N.LeakyReLU(0.1), [0.1], [0], False),
        ("leaky_relu", N.LeakyReLU(), [0.01], [0], False), ("rrelu", N.RReLU(0.1, 0.4).eval(), [0.1, 0.4], [0], False),
        ("elu", N.ELU(0.7), [0.7], [0], False), ("celu", N.CELU(2), [2], [0], False), ("selu", N.SELU(), [], [0], False),
        ("gelu", N.GELU(), [], [], False), ("gelu_tanh", N.GELU("tanh"), [], [], False), ("silu", N.SiLU(), [], [], False),
        ("mish", N.Mish(), [], [], False), ("sigmoid", N.Sigmoid(), [], [], True), ("tanh", N.Tanh(), [], [], True),
        ("log_sigmoid", N.LogSigmoid(), [], [], False), ("softsign", N.Softsign(), [], [0], False), ("tanhshrink", N.Tanhshrink(), [], [], False),
        ("softplus", N.Softplus(), [1, 20], [20], False), ("softplus", N.Softplus(2, 3), [2, 3], [1.5], False),
        ("hardtanh", N.Hardtanh(), [-1, 1], [-1, 1], False), ("hardtanh", N.Hardtanh(-0.5, 2), [-0.5, 2], [-0.5, 2], False),
        ("hardsigmoid", N.Hardsigmoid(), [], [-3, 3], False), ("hardswish", N.Hardswish(), [], [-3, 3], False),
        ("softshrink", N.Softshrink(0.5), [0.5], [-0.5, 0.5], False), ("hardshrink", N.Hardshrink(0.75), [0.75], [-0.75, 0.75], False),
        ("threshold", N.Threshold(0.25, 7), [0.25, 7], [0.25], False),
    ]
    for i, (text, module, p, kinks, reads_y) in enumerate(table):
        x = torch.tensor([*kinks, -30, -6.5, -2.25, -1.125, -0.3, -1e-3, 0, 1e-3, 0.3, 0.8, 1.7, 2.9, 5.5, 7, 25, 60.0]).reshape(1, -1)
        X = leaf(x)
        y = module(X)
        dy = Gen(1100 + i, x.shape)
        dx, = grads(y, dy.t, X)
        if text == "hardsigmoid":   # PyTorch multiplies by 1/6 rounded to float32
            exact = dy.t * ((x > -3) & (x < 3)) / 6
            assert torch.allclose(dx, exact, rtol=1e-7, atol=0)
            dx = exact
        attrs = dict(act=text, **({"p": ",".join(map(str, p))} if p else {}))
        f.case(f"{text} {p}", "act", attrs, [x, None], [y])
        f.case(f"{text} {p} gradient", "act.dx", attrs, [dy, None, y, None] if reads_y else [dy, x, None, None], [dx])
    for i, (shape, c) in enumerate([((2, 3, 2, 2), 3), ((2, 3, 4), 1), ((3, 5), 5)]):
        x, w = Gen(1200 + i, shape, 9, 2), Gen(1210 + i, (c,))
        X, W = leaf(x), leaf(w)
        y = F.prelu(X, W)
        dy = Gen(1220 + i, shape)
        dx, dw = grads(y, dy.t, X, W)
        f.case(f"prelu {i}", "act", dict(act="prelu"), [x, w], [y])
        f.case(f"prelu {i} gradient", "act.dx", dict(act="prelu"), [dy, x, None, w], [dx])
        f.case(f"prelu {i} weight gradient", "prelu.dw", dict(act="prelu"), [dy, x, w], [dw])
    for i, (shape, axis) in enumerate([((3, 5), 1), ((2, 3, 4, 5), 1), ((2, 4, 6), 2), ((2, 1, 3), 1), ((4, 2), 0)]):
        for op, fn in (("softmax", F.softmax), ("log_softmax", F.log_softmax)):
            x = Gen(1300 + i, shape, 2047, 64)
            X = leaf(x)
            y = fn(X, axis)
            dy = Gen(1310 + i, shape)
            dx, = grads(y, dy.t, X)
            f.case(f"{op} {i}", op, dict(axis=axis), [x], [y])
            f.case(f"{op} {i} gradient", op + ".dx", dict(axis=axis), [dy, y], [dx])
        if shape[axis] % 2 == 0:
            x = Gen(1330 + i, shape)
            X = leaf(x)
            y = F.glu(X, axis)
            dy = Gen(1340 + i, y.shape)
            f.case(f"glu {i}", "glu", dict(axis=axis), [x], [y])
            f.case(f"glu {i} gradient", "glu.dx", dict(axis=axis), [dy, x], grads(y, dy.t, X))
    f.save()


def shape_cases():
    f = File("shape.txt")
    for i, (size, lo, hi, mode, value) in enumerate([((3, 4), (1, 2), (0, 1), "zeros", 0), ((3, 4), (2, 1), (2, 3), "constant", 1.5),
                                                     ((4, 5), (-1, 2), (1, -2), "constant", -3), ((3, 4), (2, 3), (1, 0), "reflect", 0), ((2, 3), (3, 1), (1, 4), "replicate", 0),
                                                     ((3, 4), (3, 1), (0, 4), "circular", 0), ((5,), (4,), (2,), "reflect", 0),
                                                     ((2, 3, 2), (1, 0, 1), (0, 2, 1), "circular", 0)]):
        x = Gen(1400 + i, (2, 2) + size)
        X = leaf(x)
        flat = [v for d in reversed(range(len(size))) for v in (lo[d], hi[d])]
        y = F.pad(X, flat, value=value) if mode in ("zeros", "constant") else F.pad(X, flat, mode)
        dy = Gen(1420 + i, y.shape)
        attrs = dict(nd=len(size), lo=csv(lo), hi=csv(hi), mode=mode, value=value)
        f.case(f"pad {mode} {i}", "pad", attrs, [x], [y])
        f.case(f"pad {mode} {i} gradient", "pad.dx", attrs, [dy, x], grads(y, dy.t, X))
    a, b, c = Gen(1500, (2, 3, 4)), Gen(1501, (2, 1, 4)), Gen(1502, (2, 2, 4))
    f.case("concat", "concat", dict(axis=1), [a, b, c], [torch.cat([a.t, b.t, c.t], 1)])
    f.case("concat last", "concat", dict(axis=2), [a, a], [torch.cat([a.t, a.t], 2)])
    f.case("concat one", "concat", dict(axis=1), [a], [a.t])
    f.case("slice", "slice", dict(axis=1, start=1, size=2), [a], [a.t[:, 1:3]])
    f.case("slice last", "slice", dict(axis=2, start=3, size=1), [a], [a.t[:, :, 3:]])
    f.case("add", "add", {}, [a, Gen(1503, (2, 3, 4))], [a.t + Gen(1503, (2, 3, 4)).t])
    f.case("flatten", "reshape", {}, [a], [a.t.flatten(1)])
    f.case("flatten back", "reshape.back", {}, [Gen(1504, (2, 12)), a], [Gen(1504, (2, 12)).t.reshape(2, 3, 4)])
    f.case("dropout without a seed", "dropout", dict(p=0.5, stream=1), [a, None], [a.t])
    f.case("dropout of everything", "dropout", dict(p=1, stream=1), [a, torch.tensor(5.0)], [a.t * 0])
    f.save()


def loss_cases():
    f = File("loss.txt")
    for i, (n, k, pos, smoothing, labels) in enumerate([(4, 5, (), 0, [0, 4, 2, 2]), (3, 3, (), 0.1, [2, -1, 0]), (2, 4, (3,), 0.25, [0, 1, 3, -1, 2, 0]),
                                                        (1, 2, (2, 2), 0, [1, 0, 1, 1]), (2, 1, (), 0, [0, 0])]):
        for reduction in (0, 1):
            x = Gen(1600 + i, (n, k) + pos, 15, 2)   # some ties between logits
            X = leaf(x)
            y = torch.tensor(labels).reshape((n,) + pos)
            loss = F.cross_entropy(X, y, ignore_index=-1, label_smoothing=smoothing, reduction=("mean", "sum")[reduction])
            dx, = grads(loss, torch.tensor(1.0), X)
            correct = ((x.t.argmax(1) == y) & (y >= 0)).sum()
            f.case(f"cross entropy {i}", "cross_entropy", dict(smoothing=smoothing, reduction=reduction), [x, y.double()], [loss, dx, correct])
    for i, shape in enumerate([(3, 4), (2, 2, 3), (1, 1)]):
        for reduction in (0, 1):
            x, t = Gen(1700 + i, shape), Gen(1710 + i, shape)
            X = leaf(x)
            loss = F.mse_loss(X, t.t, reduction=("mean", "sum")[reduction])
            f.case(f"mse {i}", "mse", dict(reduction=reduction), [x, t], [loss, *grads(loss, torch.tensor(1.0), X), torch.tensor(0.0)])
    x, labels = Gen(1720, (4, 3)), torch.tensor([2, 0, 1, 1])
    X = leaf(x)
    loss = F.mse_loss(X, F.one_hot(labels, 3).double())
    f.case("mse against classes", "mse", {}, [x, labels.double()], [loss, *grads(loss, torch.tensor(1.0), X), (x.t.argmax(1) == labels).sum()])
    f.save()


def optimizer_cases():
    """Five steps each: the state before and after every step is torch.optim's own."""
    f = File("optim.txt")
    O = torch.optim
    table = [
        ("sgd", O.SGD, dict(lr=0.1)), ("sgd", O.SGD, dict(lr=0.1, weight_decay=0.05)), ("sgd", O.SGD, dict(lr=0.1, momentum=0.9)),
        ("sgd", O.SGD, dict(lr=0.1, momentum=0.9, dampening=0.3, weight_decay=0.01)),
        ("sgd", O.SGD, dict(lr=0.1, momentum=0.8, nesterov=True, weight_decay=0.01)),
        ("adam", O.Adam, dict(lr=0.01)), ("adam", O.Adam, dict(lr=0.02, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.1)),
        ("adamw", O.AdamW, dict(lr=0.01)), ("adamw", O.AdamW, dict(lr=0.05, betas=(0.7, 0.9), eps=1e-6, weight_decay=0.2)),
        ("rmsprop", O.RMSprop, dict(lr=0.01)), ("rmsprop", O.RMSprop, dict(lr=0.02, alpha=0.9, eps=1e-4, momentum=0.7, weight_decay=0.1)),
        ("rmsprop", O.RMSprop, dict(lr=0.02, centered=True, alpha=0.8)), ("rmsprop", O.RMSprop, dict(lr=0.02, centered=True, momentum=0.5)),
    ]
    for i, (text, make, kw) in enumerate(table):
        p = torch.nn.Parameter(Gen(1800 + i, (3,)).t.clone())
        opt = make([p], **kw)
        d = opt.defaults
        momentum = d.get("momentum", 0)
        for step in range(5):
            g = Gen(1820 + 10 * i + step, (3,))
            before, old = p.detach().clone(), {k: (v.clone() if torch.is_tensor(v) else v) for k, v in opt.state.get(p, {}).items()}
            p.grad = g.t.clone()
            opt.step()
            new = opt.state.get(p, {})
            was = lambda k: old.get(k) if old.get(k) is not None else torch.zeros(3)
            lr = torch.tensor(float(d["lr"]))
            attrs = dict(weight_decay=d["weight_decay"])
            if text == "sgd":
                attrs.update(momentum=momentum, dampening=d["dampening"], nesterov=int(d["nesterov"]))
                ins = [before, g, was("momentum_buffer") if momentum else None, lr, torch.tensor(float(momentum)), torch.tensor(float(step == 0))]
                outs = [p, new["momentum_buffer"] if momentum else None]
            elif text == "rmsprop":
                attrs.update(alpha=d["alpha"], eps=d["eps"], momentum=momentum, centered=int(d["centered"]))
                ins = [before, g, was("square_avg"), was("momentum_buffer") if momentum else None,
                       was("grad_avg") if d["centered"] else None, lr, torch.tensor(float(momentum))]
                outs = [p, new["square_avg"], new["momentum_buffer"] if momentum else None, new["grad_avg"] if d["centered"] else None]
            else:
                b1, b2 = d["betas"]
                attrs.update(beta1=b1, beta2=b2, eps=d["eps"])
                t = step + 1
                ins = [before, g, was("exp_avg"), was("exp_avg_sq"), lr, torch.tensor(b1), torch.tensor(1 - b1 ** t), torch.tensor(1 - b2 ** t)]
                outs = [p, new["exp_avg"], new["exp_avg_sq"]]
            f.case(f"{text} {kw} step {step + 1}".replace("{", "").replace("}", ""), text, attrs, ins, outs)
    f.save()


if __name__ == "__main__":
    os.makedirs(OUT, exist_ok=True)
    for make in (conv_cases, pool_cases, norm_cases, act_cases, shape_cases, loss_cases, optimizer_cases):
        make()

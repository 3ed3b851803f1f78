"""Five training steps of small nets, chosen ones and random ones, in PyTorch, float64: makes tests/unit/data/train.txt.

The nets are lines of text that tests/unit/nets.h reads too; parameters, images and labels come from a generator seeded by
name on both sides, so that the file holds results only.
    python3 tests/torch/make_train.py                   the committed file
    python3 tests/torch/make_train.py FILE SEED COUNT   more random nets, for CNNC_TRAIN_CASES=FILE
"""
import math, os, random, re, sys
import torch
from torch import nn
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
MASK = (1 << 64) - 1

NETS = [  # text; input; batch; training
    ("conv out=3 k=3 p=1; act ReLU; maxpool k=2; flatten; linear out=4", "2 6 6", 4, "opt=sgd lr=0.1"),
    ("conv out=3 k=5 p=2; act ReLU; maxpool k=2; conv out=4 k=3; act ReLU; flatten; linear out=6; act ReLU; linear out=3",
     "1 8 8", 5, "opt=sgd lr=0.1 momentum=0.9 wd=0.01"),
    ("conv out=4 k=3 s=2 p=1 g=2; act LeakyReLU; avgpool k=2 s=1 p=1; flatten; linear out=3", "2 7 5", 4,
     "opt=sgd lr=0.2 momentum=0.8 nesterov=1"),
    ("conv out=2 k=3 d=2; act GELU; flatten; linear out=5 b=0", "3 7 7", 3, "opt=sgd lr=0.1 momentum=0.9 damp=0.3 wd=0.1"),
    ("conv out=4 k=3 p=1 b=0; bn; act ReLU; maxpool k=3 s=2 p=1; flatten; linear out=3", "2 6 6", 4, "opt=sgd lr=0.1 momentum=0.9"),
    ("bn eps=0.001 mom=0.3; conv out=3 k=2; act ReLU6; bn aff=0; flatten; linear out=3", "2 5 5", 4, "opt=adam lr=0.01"),
    ("conv out=3 k=3; bn mom=-1; act SiLU; aavg h=1 w=1; flatten; linear out=4", "2 6 6", 4, "opt=adamw lr=0.02 wd=0.1"),
    ("conv out=3 k=3; bn track=0; act Mish; aavg h=3 w=2; flatten; linear out=4", "2 7 6", 4, "opt=rmsprop lr=0.01"),
    ("linear out=7; bn; act Tanh; linear out=4", "6", 5, "opt=rmsprop lr=0.01 momentum=0.5 centered=1 wd=0.02"),
    ("conv out=4 k=3 p=1; res{conv out=4 k=3 p=1; bn; act ReLU; conv out=4 k=3 p=1; bn}; act ReLU; aavg h=1 w=1; flatten; linear out=3",
     "2 5 5", 4, "opt=sgd lr=0.1 momentum=0.9"),
    ("conv out=2 k=1; res{conv out=3 k=3 p=1 s=2; bn}{conv out=3 k=1 s=2}; act ELU; flatten; linear out=3", "2 5 5", 4,
     "opt=adam lr=0.02 wd=0.05"),
    ("conv out=2 k=1; cat{conv out=2 k=1; act ReLU}{conv out=1 k=3 p=1; act Sigmoid}{maxpool k=3 s=1 p=1}{}; amax h=2 w=2; flatten; linear out=4",
     "2 5 5", 4, "opt=sgd lr=0.1"),
    ("conv out=2 k=3 frozen=1; act ReLU; conv out=2 k=3; act ReLU; flatten; linear out=3", "1 7 7", 4, "opt=sgd lr=0.1 momentum=0.9"),
    ("res{res{}; conv out=2 k=1}; res{act ReLU}{act ReLU}; flatten; linear out=3", "2 3 3", 4, "opt=sgd lr=0.1"),
    ("conv nd=1 out=3 k=3 p=1; act PReLU; maxpool nd=1 k=2; flatten; linear out=3", "2 8", 4, "opt=adam lr=0.01"),
    ("conv out=4 k=3; glu; act Softplus; flatten; linear out=3; logsoftmax", "2 5 5", 4, "opt=sgd lr=0.1 smoothing=0.1"),
    ("conv out=3 k=3 p=1; act Hardswish; conv out=3 k=1", "2 4 3", 3, "opt=sgd lr=0.1 smoothing=0.05"),
    ("linear out=5; act SELU; linear out=3; softmax", "4", 6, "opt=sgd lr=0.1 momentum=0.9 loss=mse"),
    ("conv out=2 k=3; act CELU a=0.75; flatten; linear out=4", "1 5 5", 4, "opt=adam lr=0.01 loss=mse targets=1"),
    ("pad lo=1 hi=2 mode=1; conv out=2 k=3; act LogSigmoid; pad lo=2 hi=1 mode=2; conv out=2 k=3; act Softsign; flatten; linear out=3",
     "1 4 4", 4, "opt=sgd lr=0.1"),
    ("pad lo=1 hi=1 mode=0; conv out=2 k=3; act Tanhshrink; pad lo=1 hi=2 mode=3; avgpool k=3 s=2 ceil=1 cip=0; flatten; linear out=3",
     "1 5 5", 4, "opt=sgd lr=0.1"),
    ("conv out=3 k=3 p=2; act Hardtanh a=-0.3 b=0.4; maxpool k=2 s=1 d=2; act Tanh; avgpool k=2 div=3; flatten; linear out=3",
     "1 5 5", 4, "opt=sgd lr=0.2"),
    ("conv out=3 k=2; act Softshrink a=0.1; act Hardshrink a=0.05; act Threshold a=0.1 b=-0.2; maxpool k=2; flatten; linear out=3",
     "2 6 6", 4, "opt=sgd lr=0.2"),
    ("linear out=5; act GELUtanh; bn; flatten; linear out=3", "3 4", 4, "opt=adamw lr=0.02 wd=0.01"),
    ("conv out=4 k=3 p=1; act ReLU; conv out=4 k=3 p=1 g=4; act ReLU6; conv out=3 k=1; act ReLU; maxpool k=2 s=2 ceil=1; amax h=1 w=1; flatten; linear out=3",
     "2 7 7", 3, "opt=sgd lr=0.1 momentum=0.9"),
]


def fill(name, n):
    s = 1469598103934665603
    for c in name.encode():
        s = ((s ^ c) * 1099511628211) & MASK
    out = []
    for _ in range(n):
        s = (s * 6364136223846793005 + 1442695040888963407) & MASK
        out.append((s >> 11) * 2.0 ** -53)
    return torch.tensor(out)


def initial(name, shape):
    n = math.prod(shape)
    u = fill(name, n)
    if len(shape) > 1:
        u = (2 * u - 1) * 1.5 / math.sqrt(n // shape[0])
    elif name.endswith(("running_var", "weight")):
        u = 0.5 + u
    elif name.endswith("num_batches_tracked"):
        u = u * 0
    else:
        u = u - 0.5
    return u.reshape(shape)


class Residual(nn.Module):
    def __init__(self, parts):
        super().__init__()
        self.body = parts[0]
        self.shortcut = parts[1] if len(parts) > 1 else nn.Sequential()

    def forward(self, x):
        a, b = self.body(x), self.shortcut(x)
        if a.shape != b.shape:
            raise ValueError("no broadcasting")
        return a + b


class Concat(nn.Module):
    def __init__(self, parts):
        super().__init__()
        for i, p in enumerate(parts):
            self.add_module(str(i), p)

    def forward(self, x):
        return torch.cat([m(x) for m in self.children()], 1)


class Pad(nn.Module):
    def __init__(self, lo, hi, mode, value):
        super().__init__()
        self.a = ([lo, hi, lo, hi], ["constant", "reflect", "replicate", "circular", "constant"][mode])

    def forward(self, x):
        return F.pad(x, *self.a)


def layer(text, shape):
    word, *rest = text.split()
    k = {a: float(b) for a, b in (r.split("=") for r in rest if "=" in r)}
    i = lambda key, d=0: int(k.get(key, d))
    nd = i("nd", 2)
    if word == "conv":
        m = {1: nn.Conv1d, 2: nn.Conv2d}[nd](shape[1], i("out"), i("k", 1), i("s", 1), i("p"), i("d", 1), i("g", 1), bool(i("b", 1)))
        if i("frozen"):
            m.requires_grad_(False)
        return m
    if word == "linear":
        return nn.Linear(shape[-1], i("out"), bool(i("b", 1)))
    if word == "bn":
        mom = k.get("mom", 0.1)
        return (nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d)(
            shape[1], k.get("eps", 1e-5), None if mom < 0 else mom, bool(i("aff", 1)), bool(i("track", 1)))
    if word == "act":
        name = rest[0]
        if name == "GELUtanh":
            return nn.GELU("tanh")
        args = [k[a] for a in "ab" if a in k]
        return getattr(nn, name)(*args)
    if word == "maxpool":
        return {1: nn.MaxPool1d, 2: nn.MaxPool2d}[nd](i("k", 2), i("s", i("k", 2)), i("p"), i("d", 1), ceil_mode=bool(i("ceil")))
    if word == "avgpool":
        return nn.AvgPool2d(i("k", 2), i("s", i("k", 2)), i("p"), bool(i("ceil")), bool(i("cip", 1)), i("div") or None)
    if word == "aavg":
        return nn.AdaptiveAvgPool2d((i("h", 1), i("w", 1)))
    if word == "amax":
        return nn.AdaptiveMaxPool2d((i("h", 1), i("w", 1)))
    if word == "pad":
        return Pad(i("lo", 1), i("hi", 1), i("mode"), 0)
    return {"flatten": nn.Flatten(1), "softmax": nn.Softmax(1), "logsoftmax": nn.LogSoftmax(1), "glu": nn.GLU(1)}[word]


class Reader:
    def __init__(self, text):
        self.text, self.at = text, 0

    def peek(self):
        return self.text[self.at:self.at + 1]

    def sequence(self, x):
        seq = nn.Sequential()
        while True:
            while self.peek() and self.peek() in " ;":
                self.at += 1
            if self.peek() in ("", "}"):
                return seq, x
            word = re.match(r"[^;{}]*", self.text[self.at:]).group()
            self.at += len(word)
            if self.peek() == "{":
                parts = []
                while self.peek() == "{":
                    self.at += 1
                    parts.append(self.sequence(x)[0])
                    self.at += 1
                m = (Residual if word == "res" else Concat)(parts)
            else:
                m = layer(word, x.shape)
            m.eval()
            seq.append(m)
            x = m(x)


def optimizer(k, params):
    lr, wd, mom = k["lr"], k.get("wd", 0), k.get("momentum", 0)
    if k["opt"] == "adam":
        return torch.optim.Adam(params, lr, weight_decay=wd)
    if k["opt"] == "adamw":
        return torch.optim.AdamW(params, lr, weight_decay=wd)
    if k["opt"] == "rmsprop":
        return torch.optim.RMSprop(params, lr, weight_decay=wd, momentum=mom, centered=bool(k.get("centered")))
    return torch.optim.SGD(params, lr, mom, k.get("damp", 0), wd, bool(k.get("nesterov")))


def train(text, inp, batch, training, nudge=0.0):
    """Losses, right answers and final state of five steps; parameters start up to a factor 1 + nudge off."""
    shape = [int(v) for v in inp.split()]
    k = {a: (b if a in ("opt", "loss") else float(b)) for a, b in (p.split("=") for p in training.split())}
    net, y = Reader(text).sequence(torch.zeros([2] + shape))
    state = {name: (initial(name, list(v.shape)) * (1 + nudge * fill(name + " nudge", v.numel()).reshape(v.shape))).to(v.dtype) for name, v in net.state_dict().items()}
    net.load_state_dict(state)
    net.train()
    opt = optimizer(k, [p for p in net.parameters() if p.requires_grad])
    losses, rights = [], []
    for step in range(5):
        n = batch - (step == 2)
        x = (fill(f"input{step}", n * math.prod(shape)) * 2 - 1).reshape([n] + shape)
        u = fill(f"labels{step}", n * math.prod(y.shape[1:]))
        y_hat = net(x)
        classes = y.shape[1]
        ids_shape = [n] + list(y.shape[2:])
        ids = (u[:math.prod(ids_shape)] * classes).long().reshape(ids_shape)
        if k.get("loss") == "mse":
            target = (u - 0.5).reshape(y_hat.shape) if k.get("targets") else F.one_hot(ids, classes).to(y_hat.dtype)
            loss = F.mse_loss(y_hat, target)
        else:
            loss = F.cross_entropy(y_hat, ids, label_smoothing=k.get("smoothing", 0))
        for g in opt.param_groups:
            g["lr"] = k["lr"] * (1 - 0.1 * step)
        opt.zero_grad()
        loss.backward()
        opt.step()
        losses.append(loss.item())
        rights.append(0 if k.get("targets") else int((y_hat.argmax(1) == ids).sum()))
    return losses, rights, {name: v.double().flatten().tolist() for name, v in net.state_dict().items()}


def write(text, inp, batch, training, out):
    losses, rights, state = train(text, inp, batch, training)
    print("net", text, file=out)
    print("input", inp, file=out)
    print(f"train batch={batch} {training}", file=out)
    print("loss", *("%.14g" % v for v in losses), file=out)
    print("right", *rights, file=out)
    for name, v in state.items():
        print("tensor", name, len(v), *("%.12g" % a for a in v), file=out)
    print("end", file=out)


def is_steady(row):
    """Whether rounding stays rounding: variances near 0 and values at kinks make it grow."""
    a, b = train(*row)[2], train(*row, nudge=1e-13)[2]
    return all(abs(x - y) <= 2e-11 * (1 + abs(x)) for name in a for x, y in zip(a[name], b[name]))


# In double precision, too, PyTorch's gradients take CELU's alpha and Hardsigmoid's 1/6 as float32: an alpha that float32
# holds, and no Hardsigmoid.
ACTS = ["ReLU", "ReLU6", "LeakyReLU a=0.2", "PReLU", "ELU", "CELU a=0.75", "SELU", "GELU", "GELUtanh", "SiLU", "Mish", "Sigmoid", "Tanh",
        "LogSigmoid", "Softsign", "Tanhshrink", "Softplus a=1.5 b=10", "Hardtanh a=-0.5 b=0.6", "Hardswish",
        "Softshrink a=0.2", "Hardshrink a=0.1"]


def random_layer(r, shape, depth):
    """Text of one layer that may or may not fit the shape [n, c, h, w]."""
    pick = r.random()
    if pick < 0.25:
        k, g = r.choice([1, 2, 3, 3]), r.choice([1, 1, 1, 2])
        return f"conv out={r.choice([1, 2, 3, 4]) * g} k={k} s={r.choice([1, 1, 2])} p={r.randint(0, k - 1)} d={r.choice([1, 1, 2])} g={g} b={r.randint(0, 1)}"
    if pick < 0.45:
        return "act " + r.choice(ACTS + ["ReLU"] * 8)
    if pick < 0.57:
        return f"bn aff={r.choice([1, 1, 0])} mom={r.choice([0.1, 0.3, -1])} track={r.choice([1, 1, 1, 0])}"
    if pick < 0.69:
        k = r.choice([2, 2, 3])
        return f"maxpool k={k} s={r.choice([1, 2, 2, 3])} p={r.randint(0, k // 2)} d={r.choice([1, 1, 2])} ceil={r.randint(0, 1)}"
    if pick < 0.76:
        k = r.choice([2, 2, 3])
        return f"avgpool k={k} s={r.choice([1, 2, 2, 3])} p={r.randint(0, k // 2)} ceil={r.randint(0, 1)} cip={r.randint(0, 1)}"
    if pick < 0.82:
        return f"{r.choice(['aavg', 'amax'])} h={r.randint(1, 4)} w={r.randint(1, 4)}"
    if pick < 0.86:
        return f"pad lo={r.randint(0, 2)} hi={r.randint(0, 2)} mode={r.randint(0, 3)}"
    if depth > 1:
        return "act ReLU"
    if pick < 0.94:
        body = "; ".join(["conv out=%d k=3 p=1" % shape[1]] + [random_layer(r, shape, 2) for _ in range(r.randint(0, 2))])
        return "res{" + body + "}" + r.choice(["", "{}", "{conv out=%d}" % shape[1], "{bn}"])
    return "cat" + "".join("{" + random_layer(r, shape, 2) + "}" for _ in range(r.randint(1, 3)))


def random_net(seed):
    """A net that fits, its input, batch and training; None when the dice gave a dull or large one."""
    r = random.Random(seed)
    inp = [r.randint(1, 3), r.randint(4, 9), r.randint(4, 9)]
    text, shape = "", torch.Size([2] + inp)
    for _ in range(r.randint(3, 9)):
        more = (text + "; " if text else "") + random_layer(r, shape, 0)
        try:
            y = Reader(more).sequence(torch.zeros([2] + inp))[1]
        except (RuntimeError, ValueError):
            continue
        if y.dim() == 4 and min(y.shape) > 0 and torch.isfinite(y).all():
            text, shape = more, y.shape
    text += f"; flatten; linear out={r.randint(2, 4)}"
    net = Reader(text).sequence(torch.zeros([2] + inp))[0]
    size = sum(v.numel() for v in net.state_dict().values())
    if size > 500 or size < 60 or "conv" not in text:
        return None
    opt = r.choice(["opt=sgd lr=0.05", "opt=sgd lr=0.05 momentum=0.9", "opt=sgd lr=0.05 momentum=0.9 nesterov=1 wd=0.01",
                    "opt=adam lr=0.01", "opt=adamw lr=0.01 wd=0.1", "opt=rmsprop lr=0.005 momentum=0.5"])
    if "bn" in text:    # it makes gradients of 0, of whose rounding others than SGD make a step
        opt = "opt=sgd lr=0.05 momentum=0.9 wd=0.001"
    return text, " ".join(map(str, inp)), r.randint(3, 5), opt + r.choice(["", "", " smoothing=0.1", " loss=mse"])


def main(path, seed, count, rows):
    with open(path, "w") as f:
        print("# made by tests/torch/make_train.py with PyTorch", torch.__version__.split("+")[0], file=f)
        for row in rows:
            write(*row, f)
        while count:
            row, seed = random_net(seed), seed + 1
            if row and is_steady(row):
                write(*row, f)
                count -= 1


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), [])
    else:
        main(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../unit/data/train.txt"), 0, 60, NETS)

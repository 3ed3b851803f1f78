"""Makes tests/unit/data/schedules.txt: learning rate and momentum of many steps under PyTorch's schedulers.

Needs PyTorch; the build and the tests do not. Run from the repository root: python3 tests/torch/make_schedules.py
A case:  KIND OPTIMIZER lr momentum steps epochs p0 .. p9 n_milestones milestones...   (KIND and OPTIMIZER as in runtime/abi.h)
then one line per step (OneCycle) or epoch (the others): lr momentum metric, in hexadecimal; the metric is plateau's.
"""
import random
import torch
from torch.optim.lr_scheduler import *

random.seed(3)
OUT = "tests/unit/data/schedules.txt"
SGD, ADAM = 0, 1


def optimizer(kind, lr, momentum):
    p = [torch.nn.Parameter(torch.zeros(1))]
    return torch.optim.SGD(p, lr=lr, momentum=momentum) if kind == SGD else torch.optim.Adam(p, lr=lr, betas=(momentum, 0.999))


def momentum_of(opt):
    g = opt.param_groups[0]
    return g["betas"][0] if "betas" in g else g["momentum"]


def case(f, kind, opt_kind, lr, momentum, steps, epochs, p, make, milestones=(), metrics=None):
    opt = optimizer(opt_kind, lr, momentum)
    sched = make(opt)
    p = list(p) + [0.0] * (10 - len(p))
    n = steps * epochs if kind == 5 else epochs
    print(kind, opt_kind, float(lr).hex(), float(momentum).hex(), steps, epochs, *[float(x).hex() for x in p], len(milestones), *milestones, file=f)
    for i in range(n):
        metric = metrics[i] if metrics else 0.0
        print(float(opt.param_groups[0]["lr"]).hex(), float(momentum_of(opt)).hex(), float(metric).hex(), file=f)
        opt.step()
        if i + 1 < n:
            sched.step(metric) if metrics else sched.step()


with open(OUT, "w") as f:
    case(f, 1, SGD, 0.1, 0.9, 1, 40, [7, 0.3], lambda o: StepLR(o, 7, 0.3))
    case(f, 1, ADAM, 0.1, 0.9, 1, 10, [1, 0.9], lambda o: StepLR(o, 1, 0.9))
    case(f, 2, SGD, 0.1, 0.9, 1, 30, [0.2], lambda o: MultiStepLR(o, [3, 3, 10, 25], 0.2), [3, 3, 10, 25])
    case(f, 3, SGD, 0.7, 0, 1, 60, [0.97], lambda o: ExponentialLR(o, 0.97))
    for t_max, eta, n in [(10, 0, 35), (200, 1e-5, 200), (1, 0.01, 6), (7, 0.05, 50)]:
        case(f, 4, SGD, 0.1, 0.9, 1, n, [t_max, eta], lambda o: CosineAnnealingLR(o, t_max, eta))
    for kind, total, pct, div, final, low, high, three, linear, cycle in [
        (SGD, 10, .3, 25, 1e4, .85, .95, 0, 0, 1), (SGD, 937, .3, 25, 1e4, .85, .95, 0, 0, 1), (ADAM, 100, .25, 10, 100, .8, .9, 1, 0, 1),
        (SGD, 50, .5, 25, 1e4, .85, .95, 0, 1, 0), (ADAM, 33, .1, 25, 1e4, .85, .95, 1, 1, 1), (SGD, 2, .3, 25, 1e4, .85, .95, 0, 0, 1),
        (SGD, 1, .3, 25, 1e4, .85, .95, 0, 0, 1), (SGD, 3, .3, 25, 1e4, .85, .95, 0, 0, 1), (SGD, 64, 1.0, 25, 1e4, .85, .95, 0, 0, 1)]:
        case(f, 5, kind, 0.5, 0.9, total, 1, [0.1, pct, div, final, low, high, three, linear, cycle, 0],
             lambda o: OneCycleLR(o, 0.1, total_steps=total, pct_start=pct, div_factor=div, final_div_factor=final, base_momentum=low,
                                  max_momentum=high, three_phase=bool(three), anneal_strategy="linear" if linear else "cos",
                                  cycle_momentum=bool(cycle)))
    for mode, factor, patience, threshold, min_lr, cooldown in [(0, .1, 2, 1e-4, 0, 0), (1, .5, 1, 1e-2, 1e-3, 3), (0, .3, 0, 1e-1, 1e-6, 0)]:
        metrics = [random.random() for _ in range(60)]
        case(f, 6, SGD, 0.1, 0.9, 1, 60, [factor, patience, threshold, min_lr, mode, cooldown],
             lambda o: ReduceLROnPlateau(o, ["min", "max"][mode], factor, patience, threshold, "rel", cooldown, min_lr), metrics=metrics)

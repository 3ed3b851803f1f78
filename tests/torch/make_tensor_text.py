"""Makes tests/torch/tensor_text.txt: how PyTorch prints tensors, for tests/unit/test_passes_explain.c.

Each case: a line `shape i|f suffix|- : values as hexadecimal floats`, then the printed lines, then a line `end`.
Usage: python tests/torch/make_tensor_text.py > tests/torch/tensor_text.txt
"""
import random

import torch

random.seed(3)
torch.manual_seed(3)


def case(t, param=False):
    values = " ".join(float(v).hex() for v in t.reshape(-1).tolist())
    shape = "x".join(str(n) for n in t.shape) or "scalar"
    kind = "i" if t.dtype == torch.int64 else "f"
    print(shape, kind, "requires_grad=True" if param else "-", ":", values)
    text = str(torch.nn.Parameter(t)) if param else str(t)
    print(text.replace("Parameter containing:\n", ""))
    print("end")


case(torch.nn.Conv2d(1, 3, (4, 5)).weight.detach(), True)
case(torch.nn.Linear(9, 2).weight.detach(), True)
case(torch.nn.Linear(30, 10).bias.detach(), True)
case(torch.zeros(4))
case(torch.ones(2, 3), True)
case(torch.tensor(3))
case(torch.tensor([1, 22, 333]))
case(torch.tensor(0.25))
case(torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]))
case(torch.tensor([1.0, 2000.0, 0.0]))
case(torch.tensor([1e-5, 0.5, -3.0]))
case(torch.tensor([1e9, 1.0]))
case(torch.tensor([float("nan"), 1.5, float("inf"), -float("inf")]))
case(torch.tensor([float("nan"), 1.0, 20.0]))
case(torch.arange(1001).float())
case((torch.rand(3, 8, 8, 8) - 0.5))
case(torch.rand(12, 100))
case(torch.rand(1, 2, 1, 2) * 100, True)
case(torch.rand(7, 1, 1, 1))
case(torch.rand(40))
case(torch.rand(2, 25) * 1e-3)

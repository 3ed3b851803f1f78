"""Who trains: each a function (made, batch, threads) -> Contender of a whole step: forward, loss, gradients, update.

`output` of a contender gives the gradients of all parameters as one vector, in PyTorch's order (JAX's is not asked)."""
import copy
import json
import os
import subprocess

import numpy

import walk
from contenders import Contender, installed, repeated
from nets import nn, read_tensors, torch, write_tensors

HUGE = 2.0 ** 40    # a learning rate beside which the weights vanish, so that new weights are gradients


class Trainer:
    """A training program by cnnc, timed by its own --bench."""

    def __init__(self, made, batch, threads):
        self.made, self.batch, self.threads = made, batch, str(threads)
        self.program = made.path("trainer")
        subprocess.run([made.cnnc, "build", made.cnn, "--trainer", "-q", "--batch", str(batch), "-o", self.program], check=True)

    def times(self):
        """Best and median of about half a second, in seconds."""
        told = subprocess.run([self.program, "--bench", "--json", "--threads", self.threads], check=True, capture_output=True, text=True)
        told = json.loads(told.stdout)
        return [1e-3 * told["best_ms"], 1e-3 * told["ms"]]

    def gradients(self):
        """One step of plain SGD with a huge learning rate."""
        made, classes = self.made, self.made.expected(1).shape[-1]
        numpy.save(made.path("x.npy"), made.input(self.batch))
        numpy.save(made.path("y.npy"), made.labels(self.batch, classes))
        model = made.write_cnn("gradient", f'data = Npy("x.npy", "y.npy")\n optimizer = SGD(lr={HUGE})\n batch_size = {self.batch}\n epochs = 1')
        out = made.path("gradient.safetensors")
        subprocess.run([made.cnnc, "train", model, "-q", "--weights", made.weights, "--steps", "1", "--no-shuffle", "-o", out], check=True)
        after = read_tensors(out)
        parameters = [name for name in after if not name.endswith(("running_mean", "running_var"))]
        return numpy.concatenate([after[name].astype("float64").ravel() for name in parameters]) / -HUGE


def torch_gradients(made, batch, dtype):
    module = copy.deepcopy(made.module).to(dtype).train()
    x, y = torch.from_numpy(made.input(batch)).to(dtype), torch.from_numpy(made.labels(batch, made.expected(1).shape[-1]))
    nn.functional.cross_entropy(module(x), y).backward()
    return numpy.concatenate([p.grad.double().numpy().ravel() for p in module.parameters()])


def torch_step(made, batch, threads, change):
    """change: (module, input) -> both as they are to be called."""
    if not torch:
        return None
    torch.set_num_threads(threads)
    x, y = torch.from_numpy(made.input(batch)), torch.from_numpy(made.labels(batch, made.expected(1).shape[-1]))
    module, x = copy.deepcopy(made.module).train(), x
    module, x, compiled = change(module, x)
    parameters = module.parameters()
    optimizer = (torch.optim.Adam(parameters, lr=1e-3, fused=True) if made.net.optimizer == "Adam" else
                 torch.optim.SGD(parameters, lr=1e-3, momentum=0.9, fused=True))

    def loss(x, y):
        return nn.functional.cross_entropy(module(x), y)
    loss = torch.compile(loss) if compiled else loss

    def step():
        optimizer.zero_grad()
        loss(x, y).backward()
        optimizer.step()
    step()
    call = repeated(step)

    def timed(n):
        torch.set_num_threads(threads)
        return call(n)
    return Contender(timed, lambda: None)


def torch_eager(made, batch, threads):
    return torch_step(made, batch, threads, lambda module, x: (module, x, False))


def torch_channels_last(made, batch, threads):
    layout = {"memory_format": torch.channels_last} if torch else {}
    return torch_step(made, batch, threads, lambda module, x: (module.to(**layout), x.to(**layout), False))


def torch_compiled(made, batch, threads):
    def change(module, x):
        torch._dynamo.reset()
        return module, x, True
    return torch_step(made, batch, threads, change)


def jax(made, batch, threads):
    if not installed("jax"):
        return None
    step = walk.jax_step(made, batch, made.labels(batch, made.expected(1).shape[-1]), made.net.optimizer == "Adam")
    return Contender(repeated(lambda: step().block_until_ready()), lambda: None)


TRAINING = {"PyTorch": torch_eager, "channels_last": torch_channels_last, "torch.compile": torch_compiled, "JAX": jax}

"""The nets of the table: each a file of examples/ and the same layers in PyTorch, with one set of weights for both.

A Net makes, in a folder of its own, what the contenders start from, and keeps it there for the next run:
    net.cnn                 the example without its normalize line, which the peers' models lack, with a train block
    weights.safetensors     PyTorch's values under cnnc's names
    BATCH.onnx              the inference net for one batch size
Inputs are random but always the same.
"""
import copy
import hashlib
import json
import os
import re
import struct
import subprocess
from dataclasses import dataclass

import numpy

try:
    import torch
    from torch import nn
except ImportError:
    torch = nn = None

HERE = os.path.dirname(os.path.abspath(__file__))
EXAMPLES = os.path.join(os.path.dirname(os.path.dirname(HERE)), "examples")


# ---- the layers in PyTorch; torchvision's nets are torchvision's ----

def lenet():
    return nn.Sequential(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
                         nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10))


def conv20():
    return nn.Sequential(nn.Conv2d(1, 20, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2880, 100), nn.ReLU(), nn.Linear(100, 10))


def conv_bn(c, k, r, stride=1, groups=1):
    return [nn.Conv2d(c, k, r, stride, r // 2, groups=groups, bias=False), nn.BatchNorm2d(k), nn.ReLU()]


def simple_cnn():
    return nn.Sequential(*conv_bn(1, 8, 5, 2), *conv_bn(8, 16, 3, 2), *conv_bn(16, 32, 3, 2), *conv_bn(32, 64, 3, 2),
                         nn.Conv2d(64, 10, 3, 2, 1), nn.Flatten())


def tinyvgg():
    def pair(c):
        return [nn.Conv2d(c, 10, 3), nn.ReLU(), nn.Conv2d(10, 10, 3), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*pair(3), *pair(10), nn.Flatten(), nn.Linear(1690, 10))


def cifar_vgg():
    def pair(c, k):
        return [*conv_bn(c, k, 3), *conv_bn(k, k, 3), nn.MaxPool2d(2)]
    return nn.Sequential(*pair(3, 64), *pair(64, 128), *pair(128, 256), nn.Flatten(), nn.Linear(4096, 10))


def mobilenet():
    layers, c = conv_bn(3, 32, 3, 2), 32
    for k, stride in [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]:
        layers += [*conv_bn(c, c, 3, stride, c), *conv_bn(c, k, 1)]
        c = k
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1024, 1000))


def torchvision_net(name, **options):
    def build():
        import torchvision
        return getattr(torchvision.models, name)(weights=None, **options)
    return build


@dataclass(frozen=True)
class Net:
    name: str               # of the file in examples/
    title: str
    shape: tuple            # of one sample
    build: object           # () -> the PyTorch module
    train_batch: int = 0    # 0: not trained here
    wanted: tuple = ()      # ratios to reach: batch 1, batch 32, training step
    optimizer: str = "SGD"


PHOTO = (3, 224, 224)
NETS = [
    Net("lenet", "LeNet-5", (1, 28, 28), lenet, 64, (2.2, 1.9, 4.0)),
    Net("conv20", "Conv 20, Linear 100", (1, 28, 28), conv20, 64, (1.6, 1.8, 3.5)),
    Net("simple_cnn", "simple_cnn", (1, 28, 28), simple_cnn, 64, (2.0, 1.8, 3.5)),
    Net("tinyvgg", "TinyVGG", (3, 64, 64), tinyvgg, 32, (1.6, 1.8, 3.0), "Adam"),
    Net("cifar_vgg", "CIFAR VGG", (3, 32, 32), cifar_vgg, 64, (1.3, 1.8, 2.5)),
    Net("resnet18", "ResNet-18", PHOTO, torchvision_net("resnet18"), 8, (1.5, 1.7, 1.5)),
    Net("vgg16", "VGG-16", PHOTO, torchvision_net("vgg16"), 0, (1.3, 1.6)),
    Net("resnet50", "ResNet-50", PHOTO, torchvision_net("resnet50"), 0, (1.3, 1.3)),
    Net("googlenet", "GoogLeNet", PHOTO, torchvision_net("googlenet", aux_logits=False, init_weights=False), 0, (1.4, 1.4)),
    Net("alexnet", "AlexNet", PHOTO, torchvision_net("alexnet"), 0, (1.8, 1.5)),
    Net("mobilenet", "MobileNetV1", PHOTO, mobilenet, 8, (1.04, 1.03, 2.0)),
    Net("mobilenetv2", "MobileNetV2", PHOTO, torchvision_net("mobilenet_v2"), 0, (1.04, 1.03)),
]


# ---- safetensors, as far as it is needed here ----

def read_header(path):
    with open(path, "rb") as f:
        size, = struct.unpack("<Q", f.read(8))
        return {k: v for k, v in json.loads(f.read(size)).items() if k != "__metadata__"}, 8 + size


def read_tensors(path):
    """Name -> array, of the float32 tensors, in the order of the file."""
    header, start = read_header(path)
    data = numpy.memmap(path, "uint8", "r", start)
    return {k: data[slice(*v["data_offsets"])].view("float32").reshape(v["shape"]) for k, v in header.items() if v["dtype"] == "F32"}


def write_tensors(path, tensors):
    """tensors: name -> array of float32 or int64."""
    header, at = {}, 0
    for name, a in tensors.items():
        header[name] = {"dtype": "I64" if a.dtype == numpy.int64 else "F32", "shape": a.shape, "data_offsets": [at, at + a.nbytes]}
        at += a.nbytes
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for a in tensors.values():
            f.write(a.tobytes())


# ---- a net and its files ----

class Made:
    """A net's module, its files in a folder of its own, its inputs and what they should give."""

    def __init__(self, net, work, cnnc):
        self.net, self.cnnc = net, cnnc
        with open(os.path.join(EXAMPLES, net.name + ".cnn")) as f:
            self.text = re.sub(r"(?m)^normalize\(.*\n", "", re.sub(r"(?s)^train \{.*?^\}\n", "", f.read(), flags=re.M))
        key = hashlib.sha256(self.text.encode()).hexdigest()[:8]
        self.folder = os.path.join(work, f"{net.name}-{key}")
        os.makedirs(self.folder, exist_ok=True)
        self.module = self._module()
        self.cnn = self.write_cnn("net", f'data = Npy("x.npy", "y.npy")\n optimizer = {self.optimizer_text()}\n batch_size = {net.train_batch or 1}')
        self.weights = self.path("weights.safetensors")
        if not os.path.exists(self.weights):
            self._write_weights()

    def path(self, name):
        return os.path.join(self.folder, name)

    def optimizer_text(self):
        return "Adam(lr=0.001)" if self.net.optimizer == "Adam" else "SGD(lr=0.001, momentum=0.9)"

    def write_cnn(self, name, train):
        path = self.path(name + ".cnn")
        with open(path, "w") as f:
            f.write(f"{self.text}\ntrain {{\n {train}\n}}\n")
        return path

    def _module(self):
        """Weights as drawn; batch norms as after one batch of noise, so that no layer's values vanish."""
        torch.manual_seed(0)
        module = self.net.build()
        norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
        if norms:
            for m in norms:
                m.momentum = 1.0
            with torch.no_grad():
                module.train()(torch.randn(8, *self.net.shape))
            for m in norms:
                m.momentum = 0.1
        return module.eval()

    def _write_weights(self):
        """cnnc and PyTorch name tensors alike only in plain stacks; their order is the same everywhere."""
        names = self.path("names.safetensors")
        subprocess.run([self.cnnc, "init", self.cnn, "-q", "-o", names], check=True)
        header, _ = read_header(names)
        values = [v.numpy() for k, v in self.module.state_dict().items() if not k.endswith("num_batches_tracked")]
        tensors = {}
        for name, about in header.items():
            tensors[name] = numpy.zeros((), "int64") if about["dtype"] == "I64" else values.pop(0)
            assert list(tensors[name].shape) == about["shape"], f"{self.net.name}: {name}"
        assert not values
        write_tensors(self.weights, tensors)
        os.remove(names)

    def onnx(self, batch):
        path = self.path(f"{batch}.onnx")
        if not os.path.exists(path):
            torch.onnx.export(copy.deepcopy(self.module), (torch.from_numpy(self.input(batch)),), path, dynamo=False, verbose=False,
                              input_names=["x"], output_names=["y"], opset_version=17)
        return path

    def input(self, batch):
        return numpy.random.default_rng(1).standard_normal((batch, *self.net.shape), "float32")

    def labels(self, batch, classes):
        return numpy.random.default_rng(2).integers(0, classes, batch)

    def expected(self, batch):
        """The outputs in double precision."""
        path = self.path(f"expected{batch}.npy")
        if not os.path.exists(path):
            with torch.inference_mode():
                numpy.save(path, copy.deepcopy(self.module).double()(torch.from_numpy(self.input(batch)).double()).numpy())
        return numpy.load(path)


def error_of(got, expected):
    """Root mean square of the differences over that of the values."""
    got, expected = numpy.asarray(got, "float64").reshape(expected.shape), numpy.asarray(expected)
    return float(numpy.linalg.norm(got - expected) / numpy.linalg.norm(expected))

#!/usr/bin/env python3
"""Writes tests/unit/data/signatures.txt: the arguments of PyTorch's layers, in order, with defaults; keyword-only ones with a
star. tests/unit/test_frontend_signatures.c holds ir/layers.def against it."""
import inspect, re, sys
import torch.nn as nn

LEFT_OUT = {"self", "device", "dtype", "args", "kwargs", "min_value", "max_value"}
names = re.findall(r'^LAYER\("(\w+)"', open("ir/layers.def").read(), re.M)
with open("tests/unit/data/signatures.txt", "w") as out:
    for name in names:
        words = [name]
        for p in inspect.signature(getattr(nn, name).__init__).parameters.values():
            if p.name in LEFT_OUT:
                continue
            star = "*" if p.kind == p.KEYWORD_ONLY else ""
            words.append(star + p.name + ("" if p.default is p.empty else f"={p.default!r}"))
        print(" ".join(words), file=out)

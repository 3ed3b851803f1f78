"""Calls a compiled net from Python through the module that `cnnc build --emit shared` writes; NumPy is not needed."""
import sys

sys.path.insert(0, sys.argv[1])
import lenet

with open(sys.argv[2], "rb") as f:
    pixels = f.read()[-28 * 28:]
scores = lenet.infer([p / 255 for p in pixels])
for name, score in zip(lenet.classes, scores):
    print(name, "%.4f" % score)

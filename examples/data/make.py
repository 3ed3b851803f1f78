"""Makes the small MNIST part of this folder from the full set: python3 make.py FOLDER_WITH_THE_FOUR_IDX_FILES

The first 6000 training and the first 1000 test pictures with their labels, in MNIST's own format (IDX, gzipped).
"""
import gzip, os, struct, sys

source, here = sys.argv[1], os.path.dirname(os.path.abspath(__file__))
for part, count in [("train", 6000), ("t10k", 1000)]:
    for kind, rank in [("images", 3), ("labels", 1)]:
        name = f"{part}-{kind}-idx{rank}-ubyte.gz"
        data = gzip.open(os.path.join(source, name)).read()
        head = 4 + 4 * rank
        dims = struct.unpack(f">{rank}I", data[4:head])
        size = 1
        for d in dims[1:]:
            size *= d
        out = data[:4] + struct.pack(f">{rank}I", count, *dims[1:]) + data[head:head + count * size]
        with open(os.path.join(here, name), "wb") as f:
            f.write(gzip.compress(out, 9, mtime=0))

# digits/D.png: the first test picture of each digit (needs Pillow).
import numpy
from PIL import Image

pictures = numpy.frombuffer(gzip.open(os.path.join(here, "t10k-images-idx3-ubyte.gz")).read()[16:], numpy.uint8).reshape(-1, 28, 28)
labels = gzip.open(os.path.join(here, "t10k-labels-idx1-ubyte.gz")).read()[8:]
os.makedirs(os.path.join(here, "digits"), exist_ok=True)
for digit in range(10):
    Image.fromarray(pictures[labels.index(digit)]).save(os.path.join(here, "digits", f"{digit}.png"), optimize=True)

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

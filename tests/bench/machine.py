"""What results are named after."""
import os
import re


def name():
    """The CPU's, with what tells its generation where makers call several by one name: AMD's the family, Intel's, always 6, the model.
    AMD's family 25 is Zen 4 and, without AVX-512, Zen 3."""
    with open("/proc/cpuinfo") as f:
        facts = f.read()
    vendor, text, family, model, flags = (re.search(rf"^{key}\s*: (.*)", facts, re.MULTILINE) for key in ("vendor_id", "model name", "cpu family", "model", "flags"))
    generation = f", family {family.group(1)}" if family else ""
    if vendor and vendor.group(1) == "GenuineIntel" and model:
        generation += f" model {model.group(1)}"
    if vendor and vendor.group(1) == "AuthenticAMD" and family and family.group(1) == "25" and " avx512f " not in flags.group(1) + " ":
        generation += " without AVX-512"
    return (text.group(1) if text else os.uname().machine) + generation


def stem():
    return re.sub(r"[^a-z0-9]+", "-", name().lower()).strip("-")

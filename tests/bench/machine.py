"""What results are named after."""
import os
import re


def name():
    """The CPU's, with its family where there is one: makers call several generations by one name."""
    with open("/proc/cpuinfo") as f:
        facts = f.read()
    model, family = (re.search(rf"^{key}\s*: (.*)", facts, re.MULTILINE) for key in ("model name", "cpu family"))
    return (model.group(1) if model else os.uname().machine) + (f", family {family.group(1)}" if family else "")


def stem():
    return re.sub(r"[^a-z0-9]+", "-", name().lower()).strip("-")

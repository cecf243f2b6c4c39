"""Writes the files of this folder: python3 write.py. Made with torch 2.11 and fastcore 2.2."""

import collections
import os
import pickle
import sys
import zipfile
from pathlib import Path

import numpy as np
import torch

here = Path(__file__).parent
torch.manual_seed(0)

DTYPES = ["float32", "float64", "float16", "bfloat16", "uint8", "int8", "int16", "int32", "int64", "bool",
          "complex64", "complex128"]
NEW = ["uint16", "uint32", "uint64", "float8_e5m2", "float8_e4m3fn"]


def sample(name):
    values = torch.tensor([0, 1, 2, 100])
    if name.startswith("float8"):
        return values.float().to(getattr(torch, name))
    if name.startswith("complex"):
        return torch.complex(values.double(), -values.double()).to(getattr(torch, name))
    return values.to(getattr(torch, name))


base = torch.arange(24, dtype=torch.float32)
state = collections.OrderedDict((name, sample(name)) for name in DTYPES)
layouts = collections.OrderedDict(
    plain=base.view(2, 3, 4),
    transposed=base.view(4, 6).t(),
    channels_last=base.view(1, 2, 3, 4).contiguous(memory_format=torch.channels_last),
    shared=base[6:12].view(2, 3),
    stepped=base[::5],
    expanded=base[3:4].expand(2, 2),
    scalar=torch.tensor(7.5),
    empty=torch.zeros(0, 3),
    parameter=torch.nn.Parameter(torch.tensor([1.0, -1.0])),
)
module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
parallel = collections.OrderedDict(("module." + k, v) for k, v in module.state_dict().items())


def save(name, value, **how):
    torch.save(value, here / name, **how)


save("dtypes.pth", state)
save("dtypes_new.pth", {name: sample(name) for name in NEW})
save("layouts.pth", layouts)
save("layouts_legacy.pth", layouts, _use_new_zipfile_serialization=False)
save("dtypes_legacy.pth", state, _use_new_zipfile_serialization=False)
save("layouts_protocol4.pth", layouts, pickle_protocol=4)
save("module.pth", module.state_dict())
save("nested.pth", {"epoch": 3, "state_dict": parallel, "lr": np.float64(0.25), "note": "ü", "sizes": torch.Size([2, 3])})
save("code.pth", {"model": module})  # a whole module: classes by name

# The types in fastai's optimizer state: fastcore's list, numpy's numbers.
from fastcore.foundation import L

save("plain.pth", {
    "hypers": L([{"lr": np.float64(0.5), "mom": 0.9, "step": np.int64(3)}]),
    "state": [{"grad_avg": torch.ones(2), "step": 4, "do_wd": False, "none": None}],
    "bytes": b"\x00\xff", "big": 2**40, "negative": -3, "tuple": (1, "two", 3.0), "dtype": torch.float16,
    "device": torch.device("cpu"),
})


class Evil:
    def __reduce__(self):
        return (os.system, ("echo ran > /tmp/ran",))


save("evil.pth", {"weight": torch.ones(1), "x": Evil()})

# The byte order mark of a big-endian machine.
with zipfile.ZipFile(here / "module.pth") as old, zipfile.ZipFile(here / "big_endian.pth", "w") as new:
    for entry in old.infolist():
        data = old.read(entry)
        new.writestr(entry.filename, b"big" if entry.filename.endswith("byteorder") else data)

torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), str(here / "script.pth"))
print("written with", torch.__version__, sys.version.split()[0])

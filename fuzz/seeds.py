"""Writes the initial inputs of the fuzzers into corpus/. Run it in this folder: python3 seeds.py"""

import json
import shutil
import struct
import zipfile
from pathlib import Path

files = Path("../tests/pth")
for target in ["pth", "safetensors", "export", "checkpoint", "cache", "table", "image"]:
    Path("corpus", target).mkdir(parents=True, exist_ok=True)
for file in files.glob("*.pth"):
    shutil.copy(file, Path("corpus/pth", file.name))
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as zip:
            pickle = next(n for n in zip.namelist() if n.endswith("data.pkl"))
            Path("corpus/pth", file.stem + ".pkl").write_bytes(b"\x01" + zip.read(pickle))
header = {"__metadata__": {"format": "pt"}, "w": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
          "n": {"dtype": "I64", "shape": [], "data_offsets": [16, 24]}, "b": {"dtype": "BOOL", "shape": [3], "data_offsets": [24, 27]}}
text = json.dumps(header).encode()
Path("corpus/safetensors/plain").write_bytes(struct.pack("<Q", len(text)) + text + bytes(27))
head = {"lin_ftrs": None, "ps": [0.5], "pool": True, "concat_pool": True, "first_bn": True, "bn_final": False,
        "lin_first": False, "y_range": None}
export = {"arch": {"arch": "resnet18", "n_in": 3, "n_out": 2, "head": head},
          "task": {"Category": {"vocab": ["a", "b"]}}, "loss": "cross_entropy", "decode": {}, "item_tfms": [], "batch_tfms": []}
Path("corpus/export/plain").write_text(json.dumps(export))

saved = {"version": 1, "written_by": "0.1.0", "run": "run", "generation": 1, "complete": False, "fingerprint": [["Seed", "42"]],
         "at": {"split": "Train", "epoch": 0, "epochs": 1, "batch": 0, "batches": 2, "fit_batches": 1, "step": 1, "pass": 0},
         "stages": [], "left": [], "hypers": [], "learn": [], "names": ["train_loss"], "rows": [], "iters": [], "messages": [],
         "smooth": {"value": 0.5, "count": 1}, "notes": {}}
Path("corpus/checkpoint/plain").write_text("\x01" + json.dumps(saved))
entry = {"path": "Bengal_1.jpg", "id": "ab", "version": [1, 2], "size": [16, 16, 3], "at": 29, "crc": 1}
Path("corpus/cache/list").write_text("\x01" + json.dumps([entry]))
for name, text in [("plain", "name,label\na.jpg,cat\nb.jpg,dog\n"), ("quoted", 'name,label\n"a,b.jpg","c""d"\n'),
                   ("crlf", "name,label\r\na.jpg,cat\r\n"), ("short", "name,label\na.jpg\n")]:
    Path("corpus/table", name).write_text("\x00" + text)
for file in sorted(Path("../tests/pillow").glob("**/*.*"))[:64]:
    if file.suffix in {".jpg", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp"}:
        shutil.copy(file, Path("corpus/image", file.name))
shutil.copy("../data/pets/images/Bengal_1.jpg", "corpus/image")

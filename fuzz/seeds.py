"""Writes the initial inputs of the fuzzers into corpus/. Run it in this folder: python3 seeds.py"""

import json
import shutil
import struct
import zipfile
from pathlib import Path

files = Path("../tests/pth")
for target in ["pth", "safetensors", "export", "checkpoint", "cache", "table", "image", "annotations", "onnx"]:
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
        "lin_first": False, "y_range": None, "act": "Relu", "init": "KaimingNormal"}
export = {"arch": {"arch": "resnet18", "n_in": 3, "n_out": 2, "head": head},
          "task": {"kind": "category", "vocab": ["a", "b"]},
          "loss": {"cross_entropy": {"weight": None, "label_smoothing": 0.0, "axis": -1, "ignore_index": -100}},
          "decode": {"channels": 3, "orient": True, "max_pixels": 65536},
          "item_tfms": [{"transform": "resize", "height": 8, "width": 8, "method": "crop", "filter": "bilinear"}],
          "batch_tfms": [{"transform": "normalize", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}]}
Path("corpus/export/plain").write_text(json.dumps(export))
# The tensor of the target is large enough for this network, which is therefore built.
whole = export | {"arch": export["arch"] | {"arch": "squeezenet1_1", "head": None}}
Path("corpus/export/whole").write_text(json.dumps(whole))

saved = {"version": 2, "written_by": "0.1.0", "run": "run", "generation": 1, "complete": False, "fingerprint": [["Seed", "42"]],
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
coco = {"images": [{"id": 1, "file_name": "a.jpg"}], "categories": [{"id": 5, "name": "cat"}],
        "annotations": [{"image_id": 1, "category_id": 5, "bbox": [2, 3, 10.5, 20]}]}
voc = ("<annotation><filename>a.jpg</filename><object><name>cat</name><bndbox><xmin>3</xmin><ymin>5</ymin><xmax>12</xmax>"
       "<ymax>20</ymax></bndbox></object></annotation>")
for kind, (name, text) in enumerate([("coco", json.dumps(coco)), ("voc", voc), ("yolo", "0 0.5 0.25 0.2 0.1\n1 0.5 0.5 1 1\n")]):
    Path("corpus/annotations", name).write_text(chr(kind) + text)


def varint(n):
    return bytes([n]) if n < 128 else bytes([n % 128 + 128]) + varint(n // 128)


def message(*fields):
    """Encodes a message of protocol buffers from pairs of a field's number and its value."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        else:
            value = value.encode() if isinstance(value, str) else value
            out += varint(number << 3 | 2) + varint(len(value)) + value
    return out


def node(kind, inputs, output, *attribute):
    """Encodes an operation. `attribute` is the name and the value of an integer, if it has one."""
    attribute = [(5, message((1, attribute[0]), (3, attribute[1]), (20, 2)))] if attribute else []
    return message(*[(1, name) for name in inputs], (2, output), (3, output), (4, kind), *attribute)


def value(name, *sides):
    """Encodes the name and the shape of an input or output, for any number of images."""
    sides = [(1, message((2, "batch")))] + [(1, message((1, side))) for side in sides]
    return message((1, name), (2, message((1, message((1, 1), (2, message(*sides)))))))


# A classifier of the mean color, and the same network without a description.
card = {"version": 1, "task": {"kind": "category", "vocab": ["a", "b"]},
        "decode": {"channels": 3, "orient": True, "max_pixels": 65536},
        "item_tfms": [{"transform": "resize", "height": 8, "width": 8, "method": "crop", "filter": "bilinear"}], "batch_tfms": [],
        "input": "prepared", "output": {"activation": "softmax", "applied": False, "threshold": 0.5}}
nodes = [node("GlobalAveragePool", ["image"], "mean"), node("Flatten", ["mean"], "flat", "axis", 1),
         node("Gemm", ["flat", "weights"], "outputs", "transB", 1)]
weights = message((1, 2), (1, 3), (2, 1), (8, "weights"), (9, struct.pack("<6f", 1, 0, -1, 0, 2, 1)))
graph = message(*[(1, each) for each in nodes], (2, "colors"), (5, weights), (11, value("image", 3, 8, 8)), (12, value("outputs", 2)))
network = message((1, 8), (7, graph), (8, message((1, ""), (2, 17))))
Path("corpus/onnx/network").write_bytes(network)
Path("corpus/onnx/plain").write_bytes(network + message((14, message((1, "finetune"), (2, json.dumps(card))))))

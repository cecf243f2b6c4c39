"""The Python half of tests/interop/published.rs: the networks of timm and torchvision with published weights, on photos.

Reads one request per line, `{"name": ..., "file": ..., "photos": [...], "folder": ...}`, and answers with one line of JSON.
For each it writes the photos, prepared as the publisher does, as `x` and their `logits` to `values.safetensors`.
"""

import importlib.machinery
import importlib.util
import json
import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, "scripts")

import timm
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.data import create_transform, resolve_data_config


def script(path):
    "Returns a script without an ending as a module"
    loader = importlib.machinery.SourceFileLoader(Path(path).name, path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


def efficientnet_lite0(file):
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    state = script("scripts/accuracy").timm_names(torch.load(file, map_location="cpu", weights_only=True))
    wrong = model.load_state_dict(state, strict=False)
    assert not wrong.missing_keys and not wrong.unexpected_keys, wrong
    return model, create_transform(**resolve_data_config({}, model=model), is_training=False)


def squeezenet1_1(file):
    model = torchvision.models.squeezenet1_1(weights=None)
    model.load_state_dict(load_file(file))
    return model, torchvision.models.SqueezeNet1_1_Weights.IMAGENET1K_V1.transforms()


NETWORKS = dict(efficientnet_lite0=efficientnet_lite0, squeezenet1_1=squeezenet1_1)


@torch.no_grad()
def run(name, file, photos, folder):
    model, prepare = NETWORKS[name](file)
    x = torch.stack([prepare(Image.open(photo).convert("RGB")) for photo in photos])
    save_file(dict(x=x, logits=model.eval()(x)), folder / "values.safetensors")
    return dict(photos=len(photos))


def main():
    torch.set_num_threads(1)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = run(request["name"], request["file"], request["photos"], Path(request["folder"]))
        except Exception as error:
            answer = dict(error=f"{type(error).__name__}: {error}")
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()

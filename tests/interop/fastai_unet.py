"""The Python half of the U-Net in tests/interop_fastai.rs, on the real fastai: python3 fastai_unet.py make|check FOLDER."""

import sys
from pathlib import Path

import torch
from fastai.basics import *
from fastai.callback.progress import *
from fastai.callback.schedule import *
from fastai.vision.learner import _resnet_split, create_unet_model
from fastai.vision.models.all import resnet18
from safetensors.torch import load_file, save_file

torch.set_num_threads(1)
LRS = slice(1e-4, 1e-3)


def learner(folder, data):
    def loader(x, y, drop_last):
        return DataLoader(list(zip(data[x], data[y])), bs=4, shuffle=False, drop_last=drop_last, num_workers=0)

    dls = DataLoaders(loader("x_train", "y_train", True), loader("x_valid", "y_valid", False), device="cpu")
    torch.manual_seed(3)
    model = create_unet_model(resnet18, 4, (64, 64), pretrained=False, self_attention=True, blur=True)
    loss = CrossEntropyLossFlat(axis=1)
    learn = Learner(dls, model, loss_func=loss, splitter=_resnet_split, path=folder, model_dir=".")
    learn.create_opt()
    return learn


def fit(learn):
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(1, LRS)


def preds(learn):
    with learn.no_bar(), learn.no_logging():
        return learn.get_preds()[0].clone()


def make(folder):
    generator = torch.Generator().manual_seed(1)
    draw = lambda *size: torch.randn(*size, generator=generator)
    codes = lambda n: torch.randint(0, 4, (n, 64, 64), generator=generator)
    data = {"x_train": draw(8, 3, 64, 64), "y_train": codes(8), "x_valid": draw(4, 3, 64, 64), "y_valid": codes(4)}
    learn = learner(folder, data)
    fit(learn)
    learn.save("theirs")
    before = preds(learn)
    fit(learn)
    save_file(data | {"preds_before": before, "preds_after": preds(learn)}, folder / "data.safetensors")


def close(what, a, b, tolerance):
    worst = float((a - b).abs().max())
    print(f"{what}: {worst:.2e}, allowed {tolerance:.0e}")
    if not worst <= tolerance:
        sys.exit(f"{what}: differ by {worst}")


def check(folder):
    data, ours = load_file(folder / "data.safetensors"), load_file(folder / "ours.safetensors")
    learn = learner(folder, data)
    learn.load("ours")
    close("predictions from our file", preds(learn), data["preds_before"], 1e-5)
    fit(learn)
    close("fit continued from our file", preds(learn), data["preds_after"], 1e-5)
    # A run that our library has continued: both libraries train it for another fit.
    learn = learner(folder, data)
    learn.load("started")
    close("predictions of a run continued by ours", preds(learn), ours["preds_after"], 1e-5)
    fit(learn)
    close("that run trained once more", preds(learn), ours["preds_last"], 1e-5)


if __name__ == "__main__":
    {"make": make, "check": check}[sys.argv[1]](Path(sys.argv[2]))

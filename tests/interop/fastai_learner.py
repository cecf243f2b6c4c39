"""The Python half of tests/interop_fastai.rs, on the real fastai: python3 fastai_learner.py make|check FOLDER."""

import sys
from pathlib import Path

import torch
import torchvision
from fastai.basics import *
from fastai.callback.progress import *
from fastai.callback.schedule import *
from fastai.vision.learner import _resnet_split, create_body, create_head
from fastai.vision.models.all import resnet18
from safetensors.torch import load_file, save_file

torch.set_num_threads(1)
LRS = slice(1e-4, 1e-3)


def learner(folder, data):
    def loader(x, y, drop_last):
        return DataLoader(list(zip(data[x], data[y])), bs=8, shuffle=False, drop_last=drop_last, num_workers=0)

    dls = DataLoaders(loader("x_train", "y_train", True), loader("x_valid", "y_valid", False), device="cpu")
    torch.manual_seed(3)
    body = create_body(resnet18(weights=None), n_in=3, pretrained=False, cut=-2)
    model = nn.Sequential(body, create_head(512, 3, ps=0.0))
    learn = Learner(dls, model, loss_func=CrossEntropyLossFlat(), splitter=_resnet_split, path=folder, model_dir=".")

    learn.create_opt()
    return learn


def fit(learn):
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(1, LRS)
    return [float(v) for v in learn.recorder.losses]


def preds(learn):
    with learn.no_bar(), learn.no_logging():
        return learn.get_preds()[0].clone()


def make(folder):
    generator = torch.Generator().manual_seed(1)
    draw = lambda *size: torch.randn(*size, generator=generator)
    classes = lambda n: torch.randint(0, 3, (n,), generator=generator)
    data = {"x_train": draw(32, 3, 32, 32), "y_train": classes(32), "x_valid": draw(12, 3, 32, 32), "y_valid": classes(12)}
    learn = learner(folder, data)
    learn.save("new")  # before the first step: an optimizer without moments
    first = fit(learn)
    learn.save("theirs")
    learn.save("theirs_weights", with_opt=False)
    before = preds(learn)
    second = fit(learn)
    save_file(data | {"preds_before": before, "preds_after": preds(learn), "losses": torch.tensor(first + second)},
              folder / "data.safetensors")


def close(what, a, b, tolerance):
    worst = float((a - b).abs().max())
    print(f"{what}: {worst:.2e}, allowed {tolerance:.0e}")
    if not worst <= tolerance:
        sys.exit(f"{what}: differ by {worst}")


def check(folder):
    data = load_file(folder / "data.safetensors")
    learn = learner(folder, data)
    # Checkpoints that our library read and wrote back.
    learn.load("ours")
    state = learn.opt.state_dict()["state"]
    assert len(state) == len(list(learn.model.parameters())) and all("grad_avg" in s for s in state)
    close("predictions from our file", preds(learn), data["preds_before"], 1e-5)
    fit(learn)
    close("fit continued from our file", preds(learn), data["preds_after"], 1e-5)
    # A run that our library started and has continued.
    ours = load_file(folder / "ours.safetensors")
    learn = learner(folder, data)
    learn.load("started")
    close("predictions of a run started by ours", preds(learn), ours["preds_before"], 1e-5)
    fit(learn)
    close("fit started by ours", preds(learn), ours["preds_after"], 1e-5)
    # Only weights, and weights as safetensors with torchvision's names.
    learn = learner(folder, data)
    learn.load("weights_only", with_opt=False)
    close("predictions from weights alone", preds(learn), data["preds_before"], 1e-5)
    state = load_file(folder / "named.safetensors")
    body = {k: v for k, v in state.items() if not k.startswith("head.")}
    missing, unexpected = torchvision.models.resnet18().load_state_dict(body, strict=False)
    assert set(missing) == {"fc.weight", "fc.bias"} and not unexpected, (missing, unexpected)


if __name__ == "__main__":
    {"make": make, "check": check}[sys.argv[1]](Path(sys.argv[2]))

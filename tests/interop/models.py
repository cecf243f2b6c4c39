"""The Python half of tests/interop.rs, on the real torchvision and fastai.

    python3 models.py write FOLDER   random weights, an input and the outputs of every model
    python3 models.py check FOLDER   runs the TorchScript files that the Rust half wrote
"""

import json
import sys
from pathlib import Path

import torch
import torchvision
from fastai.vision import models as fastai_models
from fastai.vision.learner import _default_meta, create_body, model_meta
from safetensors.torch import load_file, save_file
from torch import nn

NAMES = """resnet18 resnet34 resnet50 resnet101 resnet152 wide_resnet50_2 wide_resnet101_2
resnext50_32x4d resnext101_32x8d resnext101_64x4d xresnet18 xresnet34 xresnet50 vgg11_bn vgg13_bn
vgg16_bn vgg19_bn densenet121 densenet161 densenet169 densenet201 squeezenet1_0 squeezenet1_1 alexnet
mobilenet_v3_small mobilenet_v3_large efficientnet_b0 vgg11 vgg13 vgg16 vgg19""".split()


def architecture(name):
    "Returns the function that builds a model, and fastai's entry for it"
    place = fastai_models.xresnet if name.startswith("x") else torchvision.models
    arch = getattr(place, name)
    return arch, model_meta.get(arch, _default_meta)


def randomise(model):
    """Sets running statistics from a random batch with small changes, and weights that half precision can represent.

    With statistics of other data, the outputs of deep networks would grow without bound."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for m in norms:
        m.weight.data.uniform_(0.5, 1.5)
        m.bias.data.normal_(0, 0.1)
    before = [m.momentum for m in norms]
    for m in norms:
        m.momentum = None
    model.train()
    model(torch.randn(4, 3, 96, 96))
    for m, momentum in zip(norms, before):
        m.momentum = momentum
        m.running_mean += 0.1 * m.running_var.sqrt() * torch.randn_like(m.running_mean)
        m.running_var *= 0.5 + torch.rand_like(m.running_var)
        m.running_var += m.running_var.mean()  # no channel is amplified
    for t in model.state_dict().values():
        if t.is_floating_point():
            t.copy_(t.half())
    return model.eval()


def splits(arch, meta, body):
    "fastai's names of a vision model's parameters, group by group, the head left out"
    model = nn.Sequential(body, nn.Linear(1, 1))
    names = {id(p): n for n, p in model.named_parameters()}
    groups = meta["split"](model)
    return [[names[id(p)] for p in group] for group in groups][:-1]


@torch.no_grad()
def write(folder, name):
    torch.manual_seed(NAMES.index(name))
    arch, meta = architecture(name)
    model = randomise(arch() if name.startswith("x") else arch(weights=None))
    x = torch.randn(2, 3, 96, 96)
    tensors = {f"state.{k}": v.half() for k, v in model.state_dict().items() if v.is_floating_point()}
    logits = model(x)
    body = create_body(model, pretrained=False, cut=meta["cut"]).eval()
    tensors |= dict(x=x, logits=logits, features=body(x))
    save_file({k: v.contiguous().clone() for k, v in tensors.items()}, folder / f"{name}.safetensors")
    body_names = [f"0.{k}" for k in body.state_dict() if not k.endswith("num_batches_tracked")]
    weights = [] if name.startswith("x") else [
        [w.name, w.url] for w in torchvision.models.get_model_weights(name)]
    about = dict(names=body_names, groups=splits(arch, meta, body), weights=weights,
                 default="weights" in meta)
    (folder / f"{name}.json").write_text(json.dumps(about))
    print("wrote", name, flush=True)


@torch.no_grad()
def check(folder):
    "Checks that every TorchScript file has the outputs of the Rust half, and its parameters by name"
    files = sorted(folder.glob("*.pt"))
    assert files, f"no TorchScript file in {folder}"
    for file in files:
        about = {"finetune.json": ""}
        model = torch.jit.load(file, _extra_files=about).eval()
        given = load_file(file.with_suffix(".out"))
        for suffix in ["", ".small"]:
            error = (model(given["x" + suffix]) - given["out" + suffix]).abs().max().item()
            print(f"{file.name}{suffix}: off by {error:.1e}")
            assert error < 1e-4, file
        state = model.state_dict()
        named = {k.removeprefix("state."): v for k, v in given.items() if k.startswith("state.")}
        assert set(state) == set(named), (file, set(state) ^ set(named))
        assert all(torch.equal(state[k], v) for k, v in named.items()), file
        assert sum(1 for _ in model.parameters()) > 0 and json.loads(about["finetune.json"])["vocab"]


if __name__ == "__main__":
    torch.set_num_threads(1)
    what, folder = sys.argv[1], Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    if what == "write":
        for name in sys.argv[3:] or NAMES:
            write(folder, name)
    else:
        check(folder)

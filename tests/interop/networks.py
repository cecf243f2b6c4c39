"""The Python half of tests/interop_networks.rs, on the real timm and torchvision.

Reads one request per line, `{"name": ..., "source": "timm" or "torchvision", "folder": ...}`, and answers
with one line of JSON. For each it writes random weights under the network's own names to
`weights.safetensors`, and inputs and outputs to `values.safetensors`: logits in evaluation mode at two image
sizes, logits in training mode without dropout, gradients of a loss for a few parameters, and logits in training
mode with stochastic depth. The answer also has the layer of each parameter, and whether it decays, as timm's
`param_groups_layer_decay` has them.
"""

import importlib
import json
import math
import sys
import warnings
from pathlib import Path

import timm
import torch
import torchvision
from safetensors.torch import save_file
from timm.layers import DropPath
from timm.models import _registry as registry
from timm.optim import param_groups_layer_decay
from torch import nn

# With more parameters, gradients are not compared, to save memory.
LARGE = 100_000_000
# The seed of the draws of stochastic depth.
SEED = 5
TOKENS = """pos_embed pos_embedding cls_token class_token dist_token reg_token relative_position_bias_table
attention_biases latent freqs""".split()


def create(name, source, size, drop_path=0.0):
    if source == "torchvision":
        return torchvision.models.get_model(name, weights=None)
    kwargs = {} if size is None else dict(img_size=tuple(size))
    for drop in (dict(drop_path_rate=drop_path), {}):
        try:
            return timm.create_model(name, pretrained=False, num_classes=1000, **kwargs, **drop)
        except TypeError:
            continue
    raise TypeError(name)


def patch_of(model):
    "Returns the size of a patch, if the network's variables depend on the size of the image"
    embed = getattr(model, "patch_embed", None)
    grid = getattr(embed, "grid_size", None)
    return embed.patch_size[0] if grid else None


def sizes_of(name, source):
    "Returns the image sizes of the comparison, and whether the network is built for one size"
    if source == "torchvision":
        if name.startswith(("vit", "swin")):
            return [[224, 224]], False
        return [[96, 96], [128, 112]], False
    cfg = timm.get_pretrained_cfg(name)
    with torch.device("meta"):
        model = timm.create_model(name, pretrained=False)
    patch = patch_of(model)
    if patch is None:
        # timm's anti-aliasing by averages needs multiples of 32.
        return [[96, 96], [128, 96 if "resnetaa" in name else 112]], False
    size = cfg.input_size[1]
    step = 32 if "swin" in name else patch
    if size > 256:
        size = round(size / 2 / step) * step
    return [[size, size], [size + 2 * step, size + step]], True


def randomize(model):
    "Sets weights so that every parameter matters, and running statistics from a random batch with small changes"
    with torch.no_grad():
        for name, p in model.named_parameters():
            own = name.rsplit(".", 1)[-1]
            if own in TOKENS:
                p.normal_(0, 0.3)
            elif "gamma" in own or own == "layer_scale":
                p.uniform_(0.2, 0.6)
            elif p.ndim == 1 and own == "weight":
                p.uniform_(0.5, 1.5)
            elif p.ndim == 1:
                p.normal_(0, 0.1)
            else:
                fan = p[0].numel()
                p.normal_(0, ((2.0 if p.ndim == 4 else 1.0) / fan) ** 0.5)


@torch.no_grad()
def settle(model, x):
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    before = [m.momentum for m in norms]
    for m in norms:
        m.momentum = None
        m.reset_running_stats()
    model.train()
    model(x)
    for m, momentum in zip(norms, before):
        m.momentum = momentum
        m.running_mean += 0.1 * m.running_var.sqrt() * torch.randn_like(m.running_mean)
        m.running_var *= 0.5 + torch.rand_like(m.running_var)
        m.running_var += m.running_var.mean()  # no channel is amplified


def without_dropout(model):
    for m in model.modules():
        if isinstance(m, nn.Dropout):
            m.p = 0.0
        if type(m).__name__ in ("DropPath", "StochasticDepth"):
            for key in ("drop_prob", "p"):
                if hasattr(m, key):
                    setattr(m, key, 0.0)


def layers(model):
    "Returns the layer of each parameter, counted from the head, and its weight decay, as timm groups them"
    listed = model.no_weight_decay() if hasattr(model, "no_weight_decay") else ()
    groups = param_groups_layer_decay(model, weight_decay=1.0, no_weight_decay_list=listed, layer_decay=0.5)
    names = {id(p): n for n, p in model.named_parameters()}
    return {names[id(p)]: [round(-math.log2(g["lr_scale"])), g["weight_decay"]] for g in groups for p in g["params"]}


def dropped(name, model, size, x):
    "Returns logits in training mode with stochastic depth, or None if the network has no such layers"
    try:
        other = create(name, "timm", size, 0.3)
    except TypeError:
        return None
    if not any(isinstance(m, DropPath) and m.drop_prob > 0 for m in other.modules()):
        return None
    other.load_state_dict(model.state_dict())
    for m in other.modules():
        if isinstance(m, nn.Dropout):
            m.p = 0.0
    torch.manual_seed(SEED)
    with torch.no_grad():
        return other.train()(x)


def resized(name, model, size):
    "Returns a network for images of another size with the same weights, as timm resamples them on loading"
    other = create(name, "timm", size)
    module = importlib.import_module(type(model).__module__)
    filter_fn = getattr(module, "checkpoint_filter_fn", None)
    if filter_fn is None:
        filter_fn = importlib.import_module("timm.models.vision_transformer").checkpoint_filter_fn
    state = filter_fn(dict(model.state_dict()), other)
    other.load_state_dict(state, strict=True)
    return other


def write(name, source, folder):
    if source == "torchvision" and name not in torchvision.models.list_models():
        # The crate's own function, which is timm's network with Google's weights.
        source, name = "timm", dict(efficientnet_lite0="tf_efficientnet_lite0").get(name, name)
    torch.manual_seed(abs(hash(name)) % 2**31)
    sizes, fixed = sizes_of(name, source)
    model = create(name, source, sizes[0] if fixed else None)
    randomize(model)
    without_dropout(model)
    settle(model, torch.randn(4, 3, *sizes[0]))
    model.eval()
    values = {}
    for i, size in enumerate(sizes):
        x = torch.randn(2, 3, *size)
        net = resized(name, model, size) if fixed and i else model
        with torch.no_grad():
            values |= {f"x{i}": x, f"logits{i}": net.eval()(x)}
        del net
    state = {k: v.contiguous().clone() for k, v in model.state_dict().items() if v.is_floating_point()}
    save_file(state, folder / "weights.safetensors")
    del state
    count = sum(p.numel() for p in model.parameters())
    x = torch.randn(4, 3, *sizes[0])
    values["x_train"] = x
    grouped = None
    if source == "timm":
        grouped = layers(model)
        out = dropped(name, model, sizes[0] if fixed else None, x)
        if out is not None:
            values["dropped"] = out
    model.train()
    if count > LARGE:
        with torch.no_grad():
            values["train"] = model(x)
    else:
        out = model(x)
        values["train"] = out.detach()
        direction = torch.randn(out.shape)
        values["direction"] = direction
        ((out * direction).sum() / out.shape[0]).backward()
        named = [(n, p) for n, p in model.named_parameters() if p.grad is not None]
        for j in {0, 1, len(named) // 3, 2 * len(named) // 3, len(named) - 2, len(named) - 1}:
            n, p = named[j]
            values[f"grad.{n}"] = p.grad
    save_file({k: v.contiguous().clone() for k, v in values.items()}, folder / "values.safetensors")
    return dict(sizes=sizes, fixed=fixed, params=count, layers=grouped)


def main():
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = write(request["name"], request["source"], Path(request["folder"]))
        except Exception as error:
            answer = dict(error=f"{type(error).__name__}: {error}")
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()

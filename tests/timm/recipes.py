"""Writes recipes.json: values of timm 1.0.31 and torch 2.11 on the CPU, for tests/it/recipes.rs and tests/exact/recipes.rs.

    python tests/timm/recipes.py > tests/timm/recipes.json
"""

import json

import timm
import torch
from timm.optim import param_groups_layer_decay
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV3
from torch import nn


def filled(shape, salt, scale):
    "Returns numbers of a formula, which the Rust side computes too"
    n = torch.Size(shape).numel()
    at = torch.arange(n, dtype=torch.float64)
    return (torch.sin(at * 12.9898 + salt) * scale).float().reshape(shape)


def ema():
    cases = []
    for options in (
        dict(decay=0.9999, use_warmup=True),
        dict(decay=0.99, use_warmup=True, warmup_power=0.75, warmup_gamma=2.0, min_decay=0.3),
        dict(decay=0.9, use_warmup=False, update_after_step=3),
        dict(decay=0.98, use_warmup=True, warmup_power=1.0, update_after_step=5),
    ):
        model = nn.BatchNorm1d(3)
        average = ModelEmaV3(model, **options)
        steps = []
        for step in range(1, 13):
            with torch.no_grad():
                model.weight.copy_(filled([3], step, 1.0))
                model.running_mean.copy_(filled([3], step + 0.5, 1.0))
            average.update(model, step=step)
            steps.append([average.module.weight.tolist(), average.module.running_mean.tolist()])
        at = [1, 2, 3, 4, 10, 100, 1000, 31600, 10**6]
        cases.append(dict(options=options, averages=steps, decays=[[n, average.get_decay(n)] for n in at]))
    return cases


def cosine():
    cases = []
    for epochs, batches, warmup, lr, div in ((10, 7, 2.0, 1e-3, 100.0), (4, 5, 0.4, 0.2, 10.0), (3, 4, 0.0, 1e-2, 100.0)):
        total, first = epochs * batches, round(warmup * batches)
        opt = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)
        schedule = CosineLRScheduler(
            opt, t_initial=total - first, warmup_t=first, warmup_lr_init=lr / div, lr_min=lr / 1e5,
            warmup_prefix=True, t_in_epochs=False,
        )
        rates = []
        for step in range(total):
            schedule.step_update(step)
            rates.append(opt.param_groups[0]["lr"])
        cases.append(dict(epochs=epochs, batches=batches, warmup=warmup, lr=lr, div=div, rates=rates))
    return cases


def layer_decay():
    cases = {}
    for name in ("test_vit", "test_vit3", "test_convnext", "test_efficientnet"):
        model = timm.create_model(name, num_classes=10)
        groups = param_groups_layer_decay(
            model, weight_decay=0.05, no_weight_decay_list=model.no_weight_decay() if hasattr(model, "no_weight_decay") else (), layer_decay=0.75
        )
        names = {id(p): n for n, p in model.named_parameters()}
        cases[name] = {names[id(p)]: [g["lr_scale"], g["weight_decay"]] for g in groups for p in g["params"]}
    return cases


def drop_path():
    "Returns logits in training mode, in which blocks are skipped by the draws of a seed"
    cases = {}
    for name in ("test_vit", "test_convnext", "test_efficientnet"):
        model = timm.create_model(name, num_classes=4, drop_path_rate=0.6).train()
        size = model.pretrained_cfg["input_size"][1]
        with torch.no_grad():
            for i, (_, p) in enumerate(sorted(model.named_parameters())):
                p.copy_(filled(p.shape, i, 0.2) + (1.0 if p.ndim == 1 else 0.0))
        x = filled([8, 3, size, size], 0.25, 1.0)
        torch.manual_seed(7)
        with torch.no_grad():
            logits = [model(x).tolist() for _ in range(2)]
        cases[name] = dict(size=size, logits=logits)
    return cases


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(dict(ema=ema(), cosine=cosine(), layer_decay=layer_decay(), drop_path=drop_path())))

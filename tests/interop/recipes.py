"""The Python half of tests/interop_recipes.rs: timm's recipe, step by step.

Trains a small network with `param_groups_layer_decay`, `DropPath`, `CosineLRScheduler` and `ModelEmaV3`, and writes
the initial weights, the data, and weights and averages after each step to the file that the argument names.
"""

import sys

import timm
import torch
from safetensors.torch import save_file
from timm.optim import param_groups_layer_decay
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV3
from torch import nn

NAME, SIZE, CLASSES, BATCH, BATCHES, EPOCHS, STEPS = "test_vit", 64, 4, 4, 6, 2, 9
LR, DECAY, WEIGHT_DECAY, DROP_PATH, SEED = 3e-3, 0.65, 0.05, 0.4, 1000


def main():
    torch.set_num_threads(1)
    torch.manual_seed(1)
    model = timm.create_model(NAME, img_size=SIZE, num_classes=CLASSES, drop_path_rate=DROP_PATH).train()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.1)
    values = {f"first.{n}": p.detach().clone() for n, p in model.state_dict().items()}
    x, y = torch.randn(BATCH * BATCHES, 3, SIZE, SIZE), torch.arange(BATCH * BATCHES) % CLASSES
    values |= dict(x=x, y=y)
    groups = param_groups_layer_decay(
        model, weight_decay=WEIGHT_DECAY, no_weight_decay_list=model.no_weight_decay(), layer_decay=DECAY
    )
    for g in groups:
        g["lr"] = LR  # the scheduler multiplies by `lr_scale`
    opt = torch.optim.AdamW(groups, lr=LR, betas=(0.9, 0.99), eps=1e-5)
    total, warmup = EPOCHS * BATCHES, BATCHES // 2
    schedule = CosineLRScheduler(
        opt, t_initial=total - warmup, warmup_t=warmup, warmup_lr_init=LR / 100, lr_min=LR / 1e5, warmup_prefix=True,
        t_in_epochs=False,
    )
    average = ModelEmaV3(model, decay=0.99, use_warmup=True, warmup_power=0.75)
    for step in range(STEPS):
        schedule.step_update(step)
        torch.manual_seed(SEED + step)
        rows = slice(step % BATCHES * BATCH, step % BATCHES * BATCH + BATCH)
        loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
        opt.zero_grad()
        loss.backward()
        opt.step()
        average.update(model, step=step + 1)
        values[f"loss.{step}"] = loss.detach()
        values |= {f"weights.{step}.{n}": t.clone() for n, t in model.state_dict().items()}
        values |= {f"average.{step}.{n}": t.clone() for n, t in average.module.state_dict().items()}
    save_file({n: t.contiguous() for n, t in values.items()}, sys.argv[1])


if __name__ == "__main__":
    main()

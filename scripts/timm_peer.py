#!/usr/bin/env python3
"""timm's side of the comparison of networks: steps of training or inference on random images in memory.

    python timm_peer.py network-train --arch NAME --bs 16 --batches 8 --threads 2 [--precision bf16]
    python timm_peer.py network-infer --arch NAME --bs 16 --batches 8 --threads 2 [--precision bf16]

A step is the same as in benches/peer.rs: eager, in channels-last memory, with 37 classes; in training, automatic casts in
bf16, cross-entropy, and libtorch's fused kernel of AdamW with fastai's hyperparameters. The first step is not timed.
Prints one JSON object, with the median of the steps and the peak memory of the process.
Needs: pip install torch==2.11.0 timm==1.0.31
"""
import argparse, contextlib, json, resource, statistics, time

ap = argparse.ArgumentParser()
ap.add_argument("task", choices=["network-train", "network-infer"])
ap.add_argument("--arch", required=True)
ap.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
ap.add_argument("--bs", type=int, required=True)
ap.add_argument("--batches", type=int, required=True)
ap.add_argument("--size", type=int, default=224)
ap.add_argument("--threads", type=int, required=True)
a = ap.parse_args()

import timm, torch

CLASSES = 37
torch.set_num_threads(a.threads)
torch.manual_seed(1)
training = a.task == "network-train"
model = timm.create_model(a.arch, pretrained=False, num_classes=CLASSES).to(memory_format=torch.channels_last)
model.train(training)
x = torch.randn(a.bs, 3, a.size, a.size).to(memory_format=torch.channels_last)
y = torch.randint(CLASSES, (a.bs,))
loss_func = torch.nn.functional.cross_entropy
opt = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99), eps=1e-5, weight_decay=0.01, fused=True)


def forward():
    casts = torch.autocast("cpu", torch.bfloat16) if a.precision == "bf16" else contextlib.nullcontext()
    with casts:
        return model(x).float()


def step():
    if training:
        loss = loss_func(forward(), y)
        loss.backward()
        opt.step()
        opt.zero_grad()
    else:
        with torch.no_grad():
            loss = loss_func(forward(), y)
    return loss.item()


times = []
for _ in range(a.batches + 1):
    start = time.perf_counter()
    step()
    times.append(time.perf_counter() - start)
seconds = statistics.median_high(times[1:])
print(json.dumps(dict(
    task=a.task, images_per_s=round(a.bs / seconds, 2), ms_per_step=round(seconds * 1000, 2),
    peak_rss_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))))

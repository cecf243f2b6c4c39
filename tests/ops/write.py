#!/usr/bin/env python3
"""Writes ops.json: the results of torchvision's RandAugment operations on a small image, at magnitude 20 of 0 to 30.

    python tests/ops/write.py      with torchvision 0.26

The image has 32x24 pixels of 3 channels. Value i of height x width x channels is 20 + (37 i + 11 (i^2 mod 97)) mod 200.
The operations are bilinear, and run on values between 0 and 1, except for those that torchvision supports only for bytes. Every
37th value of the result is kept.
"""
import json
from pathlib import Path

import torch
import torchvision
from torchvision.transforms import InterpolationMode, RandAugment, autoaugment

i = torch.arange(24 * 32 * 3)
image = (20 + (37 * i + 11 * (i * i % 97)) % 200).to(torch.uint8).view(24, 32, 3).permute(2, 0, 1)
x = image.float() / 255

lines = []
for name, (strengths, signed) in RandAugment()._augmentation_space(31, (24, 32)).items():
    strength = strengths[20].item() if strengths.ndim else 0.0
    for sign in [1, -1] if signed else [1]:
        bytes_only = name in ["Posterize", "Equalize", "Solarize"]
        out = autoaugment._apply_op(image if bytes_only else x, name, sign * strength, InterpolationMode.BILINEAR, None)
        out = out.float() / 255 if bytes_only else out
        values = [round(v, 6) for v in out.permute(1, 2, 0).reshape(-1)[::37].tolist()]
        lines.append(f'  "{"-" if sign < 0 else ""}{name}": {json.dumps(values)}')
Path(__file__).with_name("ops.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
print(torchvision.__version__)

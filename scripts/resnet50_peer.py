"""The same training and prediction as the groups `train` and `infer` of examples/gpu_check, in eager PyTorch: a
ResNet-50 in channels-last memory with automatic casts, on synthetic images that are already on the device. Prints
one line of JSON. On the CPU, a ResNet-18."""
import argparse, contextlib, json, time
import torch
from torch import nn

ap = argparse.ArgumentParser()
ap.add_argument("task", choices=["train", "infer"])
ap.add_argument("--cpu", action="store_true")
ap.add_argument("--precision", choices=["fp32", "bf16", "fp16"], default="bf16")
ap.add_argument("--bs", type=int, default=256)
ap.add_argument("--size", type=int, default=224)
ap.add_argument("--steps", type=int, default=30)
ap.add_argument("--benchmark", action="store_true", help="let cuDNN choose each kernel by measuring them")
args = ap.parse_args()


class Block(nn.Module):
    "A bottleneck block, or a basic one, as in torchvision."

    def __init__(self, inputs, width, stride, bottleneck):
        super().__init__()
        outputs = width * 4 if bottleneck else width
        # Kernel size, outputs and stride of each convolution.
        convs = [(1, width, 1), (3, width, stride), (1, outputs, 1)] if bottleneck else [(3, width, stride), (3, width, 1)]
        layers, last = [], inputs
        for i, (k, n, s) in enumerate(convs):
            layers += [nn.Conv2d(last, n, k, s, k // 2, bias=False), nn.BatchNorm2d(n)]
            if i + 1 < len(convs):
                layers.append(nn.ReLU(inplace=True))
            last = n
        self.layers = nn.Sequential(*layers)
        self.short = None
        if stride > 1 or inputs != outputs:
            self.short = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(self.layers(x) + (x if self.short is None else self.short(x)))


def resnet(counts, bottleneck):
    layers = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    last = 64
    for i, count in enumerate(counts):
        width = 64 << i
        for k in range(count):
            layers.append(Block(last, width, 2 if i and not k else 1, bottleneck))
            last = width * 4 if bottleneck else width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(last, 1000))


name = "ResNet-18" if args.cpu else "ResNet-50"
try:
    import torchvision
    network = getattr(torchvision.models, name.replace("-", "").lower())(weights=None)
    source = f"torchvision {torchvision.__version__}"
except Exception:  # not installed, or of another version of torch
    network = resnet([2, 2, 2, 2], False) if args.cpu else resnet([3, 4, 6, 3], True)
    source = "written in this script"

device = torch.device("cpu" if args.cpu else "cuda:0")
warm_up = 1 if args.cpu else 8
torch.backends.cudnn.benchmark = args.benchmark
torch.manual_seed(1)
network = network.to(device, memory_format=torch.channels_last)
x = torch.randn(args.bs, 3, args.size, args.size).to(device, memory_format=torch.channels_last)
y = torch.randint(1000, (args.bs,)).to(device)
dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(args.precision)
half_on_cpu = args.cpu and args.precision == "fp16"
optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)
scaler = torch.amp.GradScaler(device.type, enabled=args.precision == "fp16")


def casts():
    # As in the program, only the scaler is used in float16 on the CPU.
    return torch.autocast(device.type, dtype) if dtype and not half_on_cpu else contextlib.nullcontext()


def train():
    with casts():
        loss = nn.functional.cross_entropy(network(x), y)
    optimizer.zero_grad(set_to_none=True)
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    return loss


@torch.no_grad()
def infer():
    with casts():
        return network(x).float()


def wait():
    if not args.cpu:
        torch.cuda.synchronize()


network.train(args.task == "train")
step = train if args.task == "train" else infer
for _ in range(warm_up):
    last = step()
wait()
start = time.perf_counter()
for _ in range(args.steps):
    last = step()
wait()
seconds = time.perf_counter() - start
print(json.dumps({
    "images_per_s": round(args.steps * args.bs / seconds, 1), "ms_per_step": round(seconds / args.steps * 1e3, 2),
    "steps": args.steps, "bs": args.bs, "size": args.size, "precision": args.precision, "benchmark": args.benchmark,
    "network": f"{name}, {source}", "optimizer": "SGD with momentum", "torch": torch.__version__,
    "finite": bool(torch.isfinite(last.detach()).all()),
    "peak_allocated_mb": None if args.cpu else round(torch.cuda.max_memory_allocated() / 1e6),
}))

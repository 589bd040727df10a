"""Reference numbers for tests/training, from PyTorch's own optimizers and schedulers.

    python scripts/goldens/make_training.py        (torch 2.11.0; takes a second; no randomness)

Writes tests/training/goldens/training.json.
"""

import json
import math
from pathlib import Path

import torch

STEPS = 100
SHAPES = {"embedding.weight": (3, 4), "head.weight": (2, 3), "head.bias": (5,)}


def filled(shape, function):
    """Element i of the flattened tensor is function(i), rounded to float32."""
    count = math.prod(shape)
    return torch.tensor([function(i) for i in range(count)], dtype=torch.float64).to(torch.float32).reshape(shape)


def optimize(optimizer_class, weight_decay):
    parameters = {
        name: torch.nn.Parameter(filled(shape, lambda i, k=k: math.cos(1.0 + i + 10 * k)))
        for k, (name, shape) in enumerate(SHAPES.items())
    }
    optimizer = optimizer_class(
        parameters.values(), lr=5e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=weight_decay, foreach=False, fused=False
    )
    schedule = torch.optim.lr_scheduler.SequentialLR(
        optimizer,
        [
            torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=10),
            torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=STEPS - 10),
        ],
        milestones=[10],
    )
    norms, rates = [], []
    for step in range(STEPS):
        for k, parameter in enumerate(parameters.values()):
            scale = 0.1 + 0.5 * abs(math.sin(0.3 * step))
            parameter.grad = filled(parameter.shape, lambda i, k=k: scale * math.sin(0.1 * step * (i + 1) + k))
        norms.append(float(torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)))
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return {
        "parameters": {name: parameter.detach().flatten().tolist() for name, parameter in parameters.items()},
        "exp_avg": {n: optimizer.state[p]["exp_avg"].flatten().tolist() for n, p in parameters.items()},
        "exp_avg_sq": {n: optimizer.state[p]["exp_avg_sq"].flatten().tolist() for n, p in parameters.items()},
        "gradient_norms": norms,
        "learning_rates": rates,
    }


def main():
    golden = {
        "torch": torch.__version__,
        "adamw": optimize(torch.optim.AdamW, weight_decay=0.05),
        "adam": optimize(torch.optim.Adam, weight_decay=0.05),
    }
    path = Path(__file__).parents[2] / "tests" / "training" / "goldens" / "training.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()

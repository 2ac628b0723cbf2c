"""AdamW, its learning rate over a run, and its state taken from a checkpoint."""

import math
from typing import Any

import torch
from torch import nn

from .config import TrainConfig
from .device import gains


def learning_rate(step: int, total: int, config: TrainConfig) -> float:
    """At optimizer step 0 ≤ step < total: linear warm-up, then cosine to 0."""
    warmup = max(1, round(config.warmup * total))
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW for a model that is where it will train; weight decay on matrices and kernels, none on biases,
    gains and the like (fewer than 2 axes)."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    fused = gains(config, "fused", parameters[0].device)
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=fused)


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Take the moments of a checkpoint, from whatever device and layout, into this optimizer's own.

    Raises:
        LookupError, TypeError, ValueError, AttributeError, RuntimeError: the state is of no such optimizer.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for number, moments in state["state"].items():
        _check(parameters[number], moments)
    # Of its groups nothing is taken: they are this configuration's, computed as here.
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state["state"], "param_groups": groups})
    for parameter, moments in optimizer.state.items():
        for name, value in moments.items():
            if value.shape == parameter.shape and value.stride() != parameter.stride():
                # The fused kernels walk through memory, and would pair elements that do not belong together.
                moments[name] = torch.empty_like(parameter).copy_(value)


def _check(parameter: torch.Tensor, moments: dict[str, torch.Tensor]) -> None:
    """Raises LookupError, TypeError or ValueError where AdamW's next step could not take them."""
    for name, shape in {"step": (), "exp_avg": parameter.shape, "exp_avg_sq": parameter.shape}.items():
        value = torch.as_tensor(moments[name])
        if value.shape != shape or not value.is_floating_point() or not value.isfinite().all():
            raise ValueError(f"{name} is {value.dtype} {tuple(value.shape)}, or not finite")
    if moments["step"] < 0 or (moments["exp_avg_sq"] < 0).any():
        raise ValueError("a number of AdamW's is below 0")

"""A model and data that the trainer can be watched with: what it does to them can be said in advance."""

import os
import signal
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from worldjepa.config import TrainConfig
from worldjepa.data.order import WHOLE, Part


class Slope(nn.Module):
    """loss = slope · weight, whose gradient is the slope; at the steps in `factors`, so many times that."""

    def __init__(self, slope: Sequence[float] = (0.3, 0.4), factors: dict[int, float] | None = None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, len(slope)))
        self.slope, self.factors = torch.tensor(slope), factors or {}
        self.calls: list[bool] = []

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        self.calls.append(self.training)
        return {"loss": (self.weight * self.slope).sum() * self.factors.get(len(self.calls), 1.0)}


class Nothing:
    """Endless batches of one black frame."""

    def batches(
        self, batch_size: int, seed: int, first: int = 0, part: Part = WHOLE
    ) -> Iterator[dict[str, Tensor]]:
        while True:
            yield {"pixels": torch.zeros(1, 8, 8, 3, dtype=torch.uint8)}


def options(**changes: Any) -> TrainConfig:
    return TrainConfig(**{"steps": 10, "log_every": 1, "device": "cpu", "precision": "fp32", **changes})


def send(number: signal.Signals) -> None:
    """Send this process a signal, as Ctrl-C or a cluster's scheduler would."""
    os.kill(os.getpid(), number)

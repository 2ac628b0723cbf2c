"""AdamW taken from a checkpoint: its moments are those of the same weights, wherever they come from."""

import itertools

import pytest
import torch
from torch import nn
from toy_model import options

from worldjepa.optimizer import build_optimizer, load_optimizer

LAYOUTS = [torch.contiguous_format, torch.channels_last]
WAYS = list(itertools.product(["true", "false"], LAYOUTS))


def model_in(layout: torch.memory_format) -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv2d(4, 8, 3).double().to(memory_format=layout)


def steps(model: nn.Module, optimizer: torch.optim.Optimizer, count: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    for _ in range(count):
        optimizer.zero_grad()
        model(torch.randn(2, 4, 5, 5, dtype=torch.float64, generator=draw)).square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize("fused", ["true", "false"])
def test_it_is_fused_as_chosen(fused: str) -> None:
    optimizer = build_optimizer(model_in(LAYOUTS[0]), options(fused=fused))
    assert [group["fused"] for group in optimizer.param_groups] == [fused == "true"] * 2


@pytest.mark.parametrize("saved", WAYS)
@pytest.mark.parametrize("now", WAYS)
def test_a_state_serves_in_any_layout_fused_or_not(saved: tuple, now: tuple) -> None:
    """torch's fused kernel walks through memory, and would take moments in another layout for others'."""
    expected = model_in(LAYOUTS[0])
    optimizer = build_optimizer(expected, options(fused="false"))
    steps(expected, optimizer, 3, seed=1)
    steps(expected, optimizer, 3, seed=2)

    before, model = model_in(saved[1]), model_in(now[1])
    optimizer = build_optimizer(before, options(fused=saved[0]))
    steps(before, optimizer, 3, seed=1)
    state = optimizer.state_dict()
    model.load_state_dict(before.state_dict())
    optimizer = build_optimizer(model, options(fused=now[0]))
    load_optimizer(optimizer, state)
    assert optimizer.param_groups[0]["fused"] is (now[0] == "true")
    steps(model, optimizer, 3, seed=2)
    torch.testing.assert_close(model.state_dict(), expected.state_dict(), rtol=1e-9, atol=1e-9)
    assert state["param_groups"][0]["fused"] is (saved[0] == "true"), "what was given stays"

"""Activations that are computed twice in place of being kept (gradient checkpointing, arXiv 1604.06174)."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def recomputed(function: Callable[..., Any], module: nn.Module, *inputs: Any, **named: Any) -> Any:
    """`function` of the inputs, of which nothing is kept for the backward but the inputs: it computes the
    function again. BatchNorm's running statistics in `module` count it once.

    `function` must not change its inputs in place.
    """

    def contexts() -> tuple[AbstractContextManager, AbstractContextManager]:
        return contextlib.nullcontext(), _statistics_stand_still(module)

    return checkpoint(function, *inputs, use_reentrant=False, context_fn=contexts, **named)


def recompute_blocks(backbone: nn.Module) -> nn.Module:
    """Have every block of a backbone computed again in the backward, in place: the members of the lists of
    modules that it consists of, as a ViT's blocks and a ResNet's. What is kept is what goes into each."""
    lists = [m for m in backbone.modules() if isinstance(m, nn.Sequential | nn.ModuleList)]
    within = {part for members in lists for member in members for part in member.modules()}
    for members in lists:
        # Of nested lists the outermost. Single layers are no blocks: each would keep what it keeps anyway.
        if members not in within and any(True for member in members for _ in member.children()):
            for member in members:
                member.forward = _Recomputed(member)  # type: ignore[method-assign]
    return backbone


class _Recomputed:
    """The forward of a module in training, computed again in the backward."""

    def __init__(self, module: nn.Module):
        self.module = module

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        module = self.module
        if not (module.training and torch.is_grad_enabled()):
            return type(module).forward(module, *inputs, **named)
        return recomputed(type(module).forward, module, module, *inputs, **named)


@contextlib.contextmanager
def _statistics_stand_still(module: nn.Module) -> Iterator[None]:
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
    # A computation ends as soon as all is there that was asked for: a norm may not be reached.
    momenta, counts = [norm.momentum for norm in norms], [norm.num_batches_tracked for norm in norms]
    before = [None if count is None else count.clone() for count in counts]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, count, was in zip(norms, momenta, counts, before, strict=True):
            norm.momentum = momentum
            if count is not None and was is not None:
                count.copy_(was)

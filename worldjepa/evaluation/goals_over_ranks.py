"""Goals shared out over ranks: each plays its part, all know what came of all."""

import dataclasses
from typing import Any

import numpy as np

from ..data.order import rows
from ..distributed import gather_objects, rank, world_size
from .goals import Goals, Outcome, Policy, play


def play_over_ranks(
    env: Any, goals: Goals, policy: Policy, budget: int, record: int = 0, label: str = "play", **rules: Any
) -> Outcome:
    """As `play`; every rank must call, with the same goals. A policy that draws, draws for its own part."""
    if world_size() == 1:
        return play(env, goals, policy, budget, record, label, **rules)
    part = rows(len(goals), (rank(), world_size()))
    mine, recorded = goals.part(part), max(0, min(record, part.stop) - part.start)
    outcome = play(env, mine, policy, budget, recorded, label, **rules) if len(mine) else None
    return joined([other for other in gather_objects(outcome) if other is not None])


def joined(outcomes: list[Outcome]) -> Outcome:
    """One outcome of several, in their order; seconds and decisions add up."""
    first, *others = outcomes
    for other in others:
        first = Outcome(
            **{
                field.name: _joined(getattr(first, field.name), getattr(other, field.name))
                for field in dataclasses.fields(Outcome)
            }
        )
    return first


def _joined(one: Any, other: Any) -> Any:
    if isinstance(one, dict):
        return {name: _joined(value, other[name]) for name, value in one.items()}
    return np.concatenate([one, other]) if isinstance(one, np.ndarray) else one + other

"""What a sweep has left in results/: read, put in order, and asked."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sweep_grid import SEED
from sweep_run import held

MODEL, FLOOR, TRUTH = "world model", "random actions", "same solver, true dynamics"
OBJECTIVE = "model.objective"
# What the loss needs only while it trains.
HELPERS = ("sigreg", "decoder", "teacher", "inverse_dynamics")

Result = dict[str, Any]


def read(sweep: str, results: Path) -> list[Result]:
    """The results of a sweep by the values of their axes, seeds last; numbers in names count as numbers, and
    our own objective comes first."""
    found = [held(path) for path in (results / sweep).glob("*.json")]

    def place(result: Result) -> Any:
        values = [str(value) for name, value in result["axes"].items() if name != SEED]
        parts = [[int(p) if p.isdigit() else p for p in re.split(r"(\d+)", value)] for value in values]
        return [(v != "jepa", p) for v, p in zip(values, parts, strict=True)], result["seed"]

    return sorted(found, key=place)


def groups(results: Sequence[Result], without: Sequence[str]) -> dict[tuple[Any, ...], list[Result]]:
    """Results by the values of their axes but these; of an axis with one value alone nothing is said."""
    names = [a for a in results[0]["axes"] if a not in without]
    found: dict[tuple[Any, ...], list[Result]] = {}
    for result in results:
        found.setdefault(tuple(result["axes"][name] for name in names), []).append(result)
    return found


def all_rows(result: Result, evaluation: str) -> dict[str, dict[str, Any]]:
    """Of an evaluation what each policy reached, by its name; {} where it was not made."""
    return result["measured"].get(evaluation, {}).get("rows", {})


def rows_of(results: Sequence[Result], evaluation: str, policy: str) -> list[dict[str, Any]]:
    """One policy's rows of an evaluation, of the results that have it."""
    found = (all_rows(result, evaluation) for result in results)
    return [rows[policy] for rows in found if policy in rows]


def parameters(result: Result) -> int:
    """Of what plans: encoder, projector, action encoder and predictor."""
    return sum(count for name, count in result["parameters"].items() if name not in HELPERS)

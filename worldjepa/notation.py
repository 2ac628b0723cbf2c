"""Options whose text has parts: `collect.behaviour`, a mixture, `collect.shard`, a part of the whole,
`data.path`, several data sets, `probe.shots`, several numbers, and `env.variations`, ranges."""

import math
import re
from pathlib import Path

BEHAVIOURS = ("uniform", "coloured", "repeat")
# A trained run's, which sees where it is.
PLANNER = "planner"


def shares(behaviour: str) -> list[tuple[str, float]]:
    """The names in `collect.behaviour`, "name=share,name=share", and their shares, which sum to 1.

    A name is one of BEHAVIOURS, PLANNER or `package:callable`; without a share it counts as 1.

    Raises:
        ValueError: it is not written so, or a share is not a positive number.
    """
    parts = []
    for text in behaviour.split(","):
        name, equals, share = text.strip().partition("=")
        module, _, path = name.partition(":")
        if name not in (*BEHAVIOURS, PLANNER) and not all(
            map(str.isidentifier, f"{module}.{path}".split("."))
        ):
            raise ValueError(f"{name!r} is no behaviour")
        parts.append((name, float(share) if equals else 1.0))
        if not 0 < parts[-1][1] < math.inf:
            raise ValueError(f"share {share} is not a positive number")
    total = math.fsum(share for _, share in parts)
    return [(name, share / total) for name, share in parts]


def part(shard: str) -> tuple[int, int]:
    """`collect.shard`, "k/n", as (k, n).

    Raises:
        ValueError: it is not written so, or k is not from 1 to n.
    """
    found = re.fullmatch(r"(\d+)/(\d+)", shard, re.ASCII)
    k, n = map(int, found.groups()) if found else (0, 0)
    if not 1 <= k <= n:
        raise ValueError(f"{shard!r} is no part")
    return k, n


def paths(path: str) -> list[str]:
    """The data sets that `data.path`, "path,path", names.

    Raises:
        ValueError: one is empty, or two have one name: what is found on each is called by it.
    """
    found = [text.strip() for text in path.split(",")]
    if not all(found) or len({data_name(text) for text in found}) < len(found):
        raise ValueError(f"{path!r} is no list of data sets")
    return found


def data_name(path: str) -> str:
    """What a data set is called, by its folder or file."""
    return Path(path).stem


def counts(shots: str) -> list[int]:
    """`probe.shots`, "n,n", as numbers.

    Raises:
        ValueError: it is not written so, or one is less than 1.
    """
    numbers = [int(text) for text in shots.split(",")]
    if min(numbers) < 1:
        raise ValueError(f"{shots!r} holds less than 1")
    return numbers


def span(text: str) -> tuple[float, float]:
    """A range of `env.variations`, "low..high", as (low, high).

    Raises:
        ValueError: it is not written so, or low is above high.
    """
    low, _, high = text.partition("..")
    ends = float(low), float(high)
    if not -math.inf < ends[0] <= ends[1] < math.inf:
        raise ValueError(f"{text!r} is no range")
    return ends

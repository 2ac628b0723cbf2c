"""Whether data are still what was written, fit to train on, and can be collected again."""

from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from ..errors import UserError
from .provenance import checksum
from .shards import PER_EPISODE, Shard, shard_files
from .summary import not_finite, pieces


@dataclass
class Finding:
    """What is to be said of one file.

    Attributes:
        frames, episodes: how many it holds, 0 where it can't be opened.
        problems: what makes it unfit, a line each.
        notes: what is missing but does no harm.
    """

    path: Path
    frames: int = 0
    episodes: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def verify(path: Path) -> list[Finding]:
    """Read every byte of every file.

    Args:
        path: a folder of shards, or an HDF5 file.

    Raises:
        UserError: nothing is there.
    """
    files = shard_files(path)
    findings = [_verify_file(file) for file in files]
    if path.is_dir():
        numbers = {int(file.stem.split("-")[1]) for file in files if file.stem.split("-")[1].isdigit()}
        # By gaps: a number may be a date.
        gaps = [(a + 1, b - 1) for a, b in pairwise([-1, *sorted(numbers)]) if b - a > 1]
        missing = ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in gaps)
        if missing:
            findings[0].notes.append(f"shards are missing between others: {missing}")
    return findings


def _verify_file(path: Path) -> Finding:
    finding = Finding(path)
    try:
        shard = Shard(path)
        finding.frames, finding.episodes = int(shard.lengths.sum()), len(shard.lengths)
        _verify_columns(shard, finding)
    except UserError as error:
        finding.problems.append(str(error).removeprefix(f"{path}: "))
        return finding
    if shard.about is None:
        finding.notes.append("does not say how it was collected")
    return finding


def _verify_columns(shard: Shard, finding: Finding) -> None:
    known = shard.checksums
    without = sorted({*shard.columns, *PER_EPISODE} - set(known))
    if without:
        finding.notes.append(f"no checksum of {', '.join(without)}" if known else "has no checksums")
    for name in dict.fromkeys((*known, *shard.columns, *PER_EPISODE)):
        crc = 0
        for piece in pieces(shard.stored(name)):
            crc = int(checksum(piece, crc)) if name in known else 0
        if crc != known.get(name, 0):
            finding.problems.append(f"column {name} is not what was written (checksum)")
    for name in shard.columns:
        bad = not_finite(shard, name)
        if bad:
            finding.problems.append(f"column {name} has {bad} rows with a number that is not finite")
    if "step_idx" in shard.columns:
        steps = shard.columns["step_idx"]
        counts = steps.dtype.kind in "iuf" and len(steps.shape) == 1
        numbers = np.asarray(steps[:] if counts else [])
        episodes = zip(shard.offsets, shard.lengths, strict=True)
        if not counts or any(
            (np.diff(numbers[first : first + count]) != 1).any() for first, count in episodes
        ):
            finding.problems.append("column step_idx does not count the frames of each episode")

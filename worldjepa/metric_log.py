"""What a run logs: the lines of metrics.jsonl, and a writer for the ranks that write nothing."""

from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from .documents import Unreadable, from_json


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The lines of a metrics.jsonl, numbers by name, a step among them; a damaged line, as one that was cut
    short by a kill, is left out. No file is no lines."""
    lines = path.read_bytes().splitlines() if path.exists() else []
    return [row for row in map(_logged, lines) if row is not None]


def _logged(line: bytes) -> dict[str, float] | None:
    """What a line says; None where it can't have been logged."""
    try:
        row = {name: float(value) for name, value in from_json(line).items()}
        return {**row, "step": int(row["step"])} if 0 <= row["step"] < 2**63 else None
    except (Unreadable, AttributeError, TypeError, ValueError, LookupError, OverflowError):
        return None


class NoWriter(SummaryWriter):
    """Takes all that a SummaryWriter takes, and writes nothing."""

    def __init__(self) -> None: ...

    def __getattribute__(self, name: str) -> Any:
        return lambda *values, **named: None

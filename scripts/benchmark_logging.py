"""What a dashboard costs: the share of a training that goes to metrics.jsonl and TensorBoard.

    python scripts/benchmark_logging.py reacher data.path=data/reacher train.steps=800 train.evaluate_goals=0

trains in a folder that is thrown away, and times in it every call that logs (scalars, histograms, pictures,
text, options, and the last flush) and every evaluation. The share is that of the time without evaluations.
"""

import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from worldjepa.commands import train as command
from worldjepa.evaluation import dashboard, watch
from worldjepa.recipes import load_config
from worldjepa.run import Run

SECONDS: dict[str, float] = defaultdict(float)
CALLS: dict[str, int] = defaultdict(int)


def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, whose seconds are added up; within another one that is timed by that name, once."""
    running = False

    def call(*values: Any, **named: Any) -> Any:
        nonlocal running
        if running:
            return function(*values, **named)
        running, began = True, time.perf_counter()
        try:
            return function(*values, **named)
        finally:
            SECONDS[name] += time.perf_counter() - began
            CALLS[name] += 1
            running = False

    return call


def main() -> None:
    recipe, *words = sys.argv[1:] or ["reacher"]
    Run.log = timed("scalars", Run.log)  # type: ignore[method-assign]
    Run.close = timed("last flush", Run.close)  # type: ignore[method-assign]
    SummaryWriter.add_image = timed("pictures", SummaryWriter.add_image)  # type: ignore[method-assign]
    SummaryWriter.add_text = timed("text", SummaryWriter.add_text)  # type: ignore[method-assign]
    watch.show_slices = timed("histograms", dashboard.show_slices)
    watch.set_up = timed("options, layout", dashboard.set_up)
    logging = ("scalars", "histograms", "pictures", "text", "options, layout", "last flush")

    def watched(*values: Any) -> Any:
        return [(every, timed("evaluations", function)) for every, function in callbacks(*values)]

    callbacks, command.callbacks = command.callbacks, watched
    command.train = timed("training", command.train)
    with tempfile.TemporaryDirectory() as folder:
        config = load_config(recipe, [*words, f"run={Path(folder) / 'run'}"])
        command.run(config)
    steps = SECONDS["training"] - SECONDS["evaluations"]
    print(f"{'':<20}{'calls':>8}{'a call':>12}{'of a step':>12}")
    for name in logging:
        if CALLS[name]:
            mean = 1000 * SECONDS[name] / CALLS[name]
            print(f"{name:<20}{CALLS[name]:>8}{mean:>9.2f} ms{100 * SECONDS[name] / steps:>10.3f} %")
    whole = sum(SECONDS[name] for name in logging)
    print(f"{'together':<40}{100 * whole / steps:>10.3f} %")
    print(f"evaluations beside that: {100 * SECONDS['evaluations'] / steps:.1f} % of the steps' time")


if __name__ == "__main__":
    main()

"""State probes: what can be read from frozen latents, and from what they are compared with.

After LeWorldModel (arXiv 2603.19312, section 5.1: linear and MLP probes on frozen latents) and Delta-JEPA
(observations split by trajectory, several seeds, probes of changes). LeWM's error on standardised values is
1 - R².
"""

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from ..config import ProbeConfig
from ..data.windows import Windows
from .probe_scores import score_classes, score_values
from .probe_sources import Encoder, Sample, read_windows
from .probes import targets
from .regressors import REGRESSORS, Reader, Settings, quartiles

TRUTH = "true coordinates"
KINDS = (*REGRESSORS, "logistic")
# Nearest neighbours and logistic regressions take their time: they get so many of the training frames.
SUBSET = 10_000


class Task(NamedTuple):
    """What is read: features (n, d) of each source, and values (n, k) with their names."""

    features: dict[str, np.ndarray]
    values: np.ndarray
    names: list[str]


class Side(NamedTuple):
    """Training or held-out windows: which they are, the episode (n,) of each, and what is read from them."""

    indices: np.ndarray
    episodes: np.ndarray
    tasks: dict[str, Task]


def tasks_of(env: Any, windows: Windows, sample: Sample, context: int) -> dict[str, Task]:
    """What is read from windows of two frames at least: coordinates from the last one; velocities, where the
    data have them, from the last `context`; and the coordinates' change between the last two from that of the
    features."""
    shown = [targets(env, windows, sample.indices, frame) for frame in range(windows.frames)]
    true = [np.stack(list(coordinates.values()), 1) for coordinates, _ in shown]
    sources = {**sample.features, TRUTH: np.stack(true, 1)}
    names, velocities = list(shown[-1][0]), shown[-1][1]
    last = {name: x[:, -1] for name, x in sources.items()}
    tasks = {"coordinates": Task(last, true[-1], names)}
    if velocities:
        several = {name: x[:, -context:].reshape(len(x), -1) for name, x in sources.items()}
        # The same numbers, put so that an MLP finds velocities in them most easily, as the ceiling is to be
        # high. Latents are read better as they are.
        ends = true[-context:]
        several[TRUTH] = np.concatenate([ends[-1], *(b - a for a, b in pairwise(ends))], 1)
        tasks["velocities"] = Task(several, np.stack(list(velocities.values()), 1), list(velocities))
    moved = {name: x[:, -1] - x[:, -2] for name, x in sources.items()}
    tasks["changes"] = Task(moved, true[-1] - true[-2], names)
    return tasks


class Draws(NamedTuple):
    """Held-out windows, the same for all seeds; training windows, and which of them each seed draws."""

    train: Side
    test: Side
    of_seeds: list[np.ndarray]


def draw(
    env: Any,
    encode: dict[str, Encoder],
    train: Windows,
    test: Windows,
    context: int,
    options: ProbeConfig,
) -> Draws:
    """Windows of training and of held-out episodes with their features. Of each source each frame is encoded
    once, however many seeds draw it."""
    rngs = [np.random.default_rng((options.seed, seed)) for seed in range(options.seeds)]
    drawn = [rng.permutation(len(train))[: options.train_frames] for rng in rngs]
    chosen = np.unique(np.concatenate(drawn))
    held_out = np.sort(np.random.default_rng(options.seed).permutation(len(test))[: options.test_frames])

    def side(windows: Windows, indices: np.ndarray, label: str) -> Side:
        sample = read_windows(encode, windows, indices, label)
        return Side(indices, windows.episodes[indices], tasks_of(env, windows, sample, context))

    fitted_on, judged_on = side(train, chosen, "embed training"), side(test, held_out, "embed held-out")
    return Draws(fitted_on, judged_on, [np.searchsorted(chosen, indices) for indices in drawn])


def probe_states(draws: Draws, options: ProbeConfig) -> tuple[dict[str, Any], dict[tuple[str, str], Reader]]:
    """Every kind of probe of everything from every source.

    Returns:
        "probes": {source: {task: {name: {kind: row}}}}, "means": {source: {task: {kind: row}}}, rows as of
        `probe_scores`; "of_truth": {task: {kind: mean R² of latents over that of the true coordinates}}.
        And the first seed's ridge and MLP on latents, by task and kind.
    """
    test, readers = draws.test, {}
    probes: dict[str, Any] = {}
    means: dict[str, Any] = {}
    sources = list(test.tasks["coordinates"].features)
    bar = tqdm(total=len(sources) * len(test.tasks) * len(KINDS), desc="probe", leave=False)
    for source in sources:
        probes[source], means[source] = {}, {}
        for name, task in test.tasks.items():
            rows: dict[str, dict[str, Any]] = {value: {} for value in task.names}
            average = {}
            for kind in KINDS:
                found, fitted = _probe(draws, name, source, kind, options)
                if source == "latent" and kind in ("ridge", "mlp"):
                    readers[name, kind] = fitted
                for value, row in zip(task.names, found[0], strict=True):
                    rows[value][kind] = row
                average[kind] = found[1]
                bar.update()
            probes[source][name], means[source][name] = rows, average
    bar.close()
    return {"probes": probes, "means": means, "of_truth": _of_truth(means)}, readers


def _probe(
    draws: Draws, name: str, source: str, kind: str, options: ProbeConfig
) -> tuple[tuple[list[dict[str, Any]], dict[str, Any]], Any]:
    """Rows and their mean, over all seeds, and the first seed's reader; None of logistic regressions."""
    train, test = draws.train.tasks[name], draws.test.tasks[name]
    x, x_test, readers, found = train.features[source], test.features[source], [], []
    for seed, chosen in enumerate(draws.of_seeds):
        if kind in ("knn", "logistic"):
            chosen = chosen[:SUBSET]
        if kind == "logistic":
            found.append(
                [
                    quartiles(x[chosen], y[chosen], x_test, y_test, options.ridge)
                    for y, y_test in zip(train.values.T, test.values.T, strict=True)
                ]
            )
            continue
        settings = Settings(options.ridge, options.mlp_steps, options.seed + seed)
        readers.append(REGRESSORS[kind](x[chosen], train.values[chosen], settings))
    if kind == "logistic":
        right = np.array([[hits for hits, _ in columns] for columns in found]).transpose(0, 2, 1)
        chance = np.array([[share for _, share in columns] for columns in found])
        return score_classes(right, chance, draws.test.episodes), None
    predicted = np.stack([reader(x_test) for reader in readers])
    return score_values(test.values, predicted, draws.test.episodes), readers[0]


def _of_truth(means: dict[str, Any]) -> dict[str, dict[str, float | None]]:
    """Mean R² of latents as a share of what the same kind of probe reads from the true coordinates of the
    same frames; None where that is nothing, as it is of linear probes of velocities."""
    return {
        task: {
            kind: row["r2"] / means[TRUTH][task][kind]["r2"] if means[TRUTH][task][kind]["r2"] > 0.1 else None
            for kind, row in kinds.items()
            if "r2" in row
        }
        for task, kinds in means["latent"].items()
    }

"""Pictures of the pages that stand on results/: a kept episode is played again, kept scalars shown again."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from worldjepa.metric_log import read_metrics

ROOT = Path(__file__).parents[1]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """A file of scripts/ as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module


@pytest.fixture
def kept(script: Callable[[str], Any], smoke_runs: dict[str, Path]) -> dict[str, Any]:
    recipe, kept = script("tasks_film").record(str(smoke_runs["smoke"]))
    assert recipe == "smoke"
    return kept


def test_an_episode_is_kept_and_played_again_to_the_same_end(
    script: Callable[[str], Any], kept: dict[str, Any]
) -> None:
    film = script("pictures").played_again("smoke", kept)
    # The frames after the first and one for each action; the last stays for ten.
    assert len(film) == len(kept["actions"]) + 1 + 10
    start, now, goal = np.split(film[-1], 3, axis=1)
    assert not np.array_equal(start, goal)
    assert not np.array_equal(start, now)


def test_an_episode_that_ends_otherwise_is_not_shown(
    script: Callable[[str], Any], kept: dict[str, Any]
) -> None:
    kept["reached"] = not kept["reached"]
    with pytest.raises(ValueError, match="smoke: played again, the episode ends otherwise"):
        script("pictures").played_again("smoke", kept)


def test_kept_scalars_are_what_tensorboard_shows(
    script: Callable[[str], Any], smoke_runs: dict[str, Path], tmp_path: Path
) -> None:
    log = smoke_runs["smoke"] / "metrics.jsonl"
    script("dashboard_picture").write_events(log, tmp_path / "run")
    shown = EventAccumulator(str(tmp_path / "run")).Reload()
    losses = {row["step"]: row["train/loss"] for row in read_metrics(log) if "train/loss" in row}
    assert losses
    found = {event.step: event.value for event in shown.Scalars("train/loss")}
    assert found == pytest.approx(losses, rel=1e-6)
    assert "custom_scalars__config__" in shown.Tags()["tensors"]


@pytest.mark.parametrize("name", ["reacher", "without_sigreg"])
def test_the_runs_that_the_dashboard_shows_are_kept(script: Callable[[str], Any], name: str) -> None:
    path = script("dashboard_picture").RESULTS / f"{name}.jsonl"
    collapsed = [row["latent/collapsed"] for row in read_metrics(path) if "latent/collapsed" in row]
    assert collapsed[-1] == (name == "without_sigreg")

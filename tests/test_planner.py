"""The planner of a configuration: which distance it takes, and from which frames."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from worldjepa.data.shards import Store
from worldjepa.data.windows import split_episodes
from worldjepa.evaluation import planner
from worldjepa.evaluation.geometry import whitening
from worldjepa.evaluation.planner import latent_planner
from worldjepa.recipes import load_config
from worldjepa.world_model import WorldModel


@pytest.fixture(scope="module")
def model() -> WorldModel:
    torch.manual_seed(0)
    return WorldModel(load_config("smoke"), action_dim=2).eval()


def metric(store: Store, model: WorldModel, reacher: Any, *overrides: str) -> torch.Tensor | None:
    config = load_config("smoke", list(overrides))
    return latent_planner(config, store, model, reacher.action_space).dynamics.metric


def test_plain_distances_need_no_metric(tiny_data: Path, model: WorldModel, reacher: Any) -> None:
    assert metric(Store(tiny_data), model, reacher) is None


@torch.no_grad()
def test_whitened_distances_come_from_all_training_frames(
    tiny_data: Path, model: WorldModel, reacher: Any
) -> None:
    store = Store(tiny_data)
    training, held_out = split_episodes(len(store.lengths), 0.4, 3)
    steps = np.arange(store.lengths[0])[None]
    frames = [store.gather("pixels", np.array([e]), steps)[0] for e in training]
    z = model.encode(torch.from_numpy(np.concatenate(frames)))
    given = metric(store, model, reacher, "plan.distance=whitened", "data.held_out=0.4", "data.split_seed=3")
    torch.testing.assert_close(given, whitening(z), rtol=1e-3, atol=1e-3)
    assert len(held_out) == 2


def test_of_many_frames_some_are_drawn(
    tiny_data: Path, model: WorldModel, reacher: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tiny_data)
    all_of_them = metric(store, model, reacher, "plan.distance=whitened")
    monkeypatch.setattr(planner, "METRIC_FRAMES", 20)
    some, others = (
        metric(store, model, reacher, "plan.distance=whitened", f"plan.seed={s}") for s in range(2)
    )
    assert not torch.allclose(some, all_of_them, rtol=0.01)
    assert not torch.allclose(some, others, rtol=0.01)

"""State probes against scikit-learn and by what is planted: quantities that latents hold are read, others are
not, and an imagined latent knows as much as its model imagines rightly."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from moving_dot import DotModel, DotWorld, dot_frames, write_dots, write_episodes
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from worldjepa.config import ProbeConfig
from worldjepa.data.shards import Store
from worldjepa.data.windows import Windows, split_episodes
from worldjepa.evaluation.probe_sources import Encoder
from worldjepa.evaluation.probes import embed, targets
from worldjepa.evaluation.regressors import Reader
from worldjepa.evaluation.rollout_probes import deepest, probe_rollouts
from worldjepa.evaluation.state_probes import KINDS, TRUTH, Draws, draw, probe_states

QUICK = ProbeConfig(train_frames=300, test_frames=100, seeds=1, mlp_steps=150)


def encoder(model: DotModel) -> dict[str, Encoder]:
    return {"latent": lambda frames: model.encode(frames).detach().numpy()}


def drawn(model: DotModel, sides: tuple[Windows, Windows], options: ProbeConfig = QUICK) -> Draws:
    return draw(DotWorld(), encoder(model), *sides, sides[0].frames, options)


def probed(model: DotModel, sides: tuple[Windows, Windows], options: ProbeConfig = QUICK) -> dict[str, Any]:
    """Rows of latents alone, {task: {name: {kind: row}}}."""
    return probe_states(drawn(model, sides, options), options)[0]["probes"]["latent"]


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> tuple[Windows, Windows]:
    """Windows of three frames of training and of held-out episodes."""
    store = Store(write_dots(tmp_path_factory.mktemp("dots"), episodes=12))
    training, held_out = split_episodes(12, 0.34, 0)
    return Windows(store, training, 3, 2), Windows(store, held_out, 3, 2)


@pytest.fixture(scope="module")
def perfect(sides: tuple[Windows, Windows]) -> tuple[dict[str, Any], dict[tuple[str, str], Reader]]:
    """What is read from latents that hold the dot's place, and the readers."""
    return probe_states(drawn(DotModel(), sides), QUICK)


class Noisy(DotModel):
    """Knows the dot's place, but not well: where it sees the dot, with noise that depends on the picture."""

    def encode(self, frames: Tensor) -> Tensor:
        z = super().encode(frames)
        return z + 0.3 * torch.sin(1e4 * z.flip(-1))


class Position(DotModel):
    """Its latent is the dot's position itself, (..., 2)."""

    def encode(self, frames: Tensor) -> Tensor:
        cosine, sine = super().encode(frames).chunk(2, -1)
        return torch.atan2(sine, cosine) / (2 * torch.pi) % 1


def test_latents_are_those_of_the_model_in_the_order_asked_for(sides: tuple[Windows, Windows]) -> None:
    windows, model = sides[0], DotModel()
    indices = np.array([5, 0, 200, 3, *range(50, 190)])
    z = embed(model, windows, indices, "embed")
    assert z.shape == (144, 3, 4)
    assert z.dtype == np.float32
    with torch.no_grad():
        assert np.array_equal(z, model.encode(windows.batch(indices)["pixels"]).numpy())


@pytest.mark.parametrize("frame", [-1, 0])
def test_targets_are_those_of_the_frame(sides: tuple[Windows, Windows], frame: int) -> None:
    windows, indices = sides[0], np.array([0, 7, 100])
    coordinates, velocities = targets(DotWorld(), windows, indices, frame)
    steps = windows.starts[indices] + (2 * 2 if frame == -1 else 0)
    qpos, qvel = (
        windows.store.gather(n, windows.episodes[indices], steps[:, None])[:, 0] for n in ("qpos", "qvel")
    )
    assert list(coordinates) == ["sin 0", "sin 1", "cos 0", "cos 1"]
    assert np.array_equal(coordinates["cos 1"], np.cos(2 * np.pi * qpos[:, 1]))
    assert list(velocities) == ["velocity 0", "velocity 1"]
    assert np.array_equal(velocities["velocity 1"], qvel[:, 1])


def read_again(windows: Windows, indices: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By task, features and values of windows of three frames."""
    z, before = embed(Noisy(), windows, indices, ""), targets(DotWorld(), windows, indices, 1)[0]
    here, velocities = targets(DotWorld(), windows, indices)
    now, then, speed = (np.stack(list(v.values()), 1) for v in (here, before, velocities))
    return {
        "coordinates": (z[:, -1], now),
        "velocities": (z.reshape(len(z), -1), speed),
        "changes": (z[:, -1] - z[:, -2], now - then),
    }


def test_numbers_are_those_of_scikit_learn_on_the_same_split(sides: tuple[Windows, Windows]) -> None:
    """Frames are drawn, embedded and looked up here once more, by other means."""
    options = ProbeConfig(train_frames=150, test_frames=60, seeds=2, mlp_steps=1, ridge=3.0, seed=5)
    found, (train, test) = probed(Noisy(), sides, options), sides
    i_test = np.sort(np.random.default_rng(5).permutation(len(test))[:60])
    scores: dict[tuple[str, str], list[np.ndarray]] = {}
    for seed in range(2):
        i_train = np.random.default_rng((5, seed)).permutation(len(train))[:150]
        fitted, judged = (read_again(*side) for side in ((train, i_train), (test, i_test)))
        for task, (x, y) in fitted.items():
            x_test, y_test = judged[task]
            for kind, estimator in (
                ("ridge", Ridge(3.0)),
                ("knn", KNeighborsRegressor(10, weights="distance")),
            ):
                predicted = make_pipeline(StandardScaler(), estimator).fit(x, y).predict(x_test)
                r2 = r2_score(y_test, predicted, multioutput="raw_values")
                scores.setdefault((task, kind), []).append(r2)
    assert len(scores) == 6
    for (task, kind), of_seeds in scores.items():
        told = [row[kind]["r2"] for row in found[task].values()]
        assert told == pytest.approx(np.mean(of_seeds, 0), abs=1e-6)


def test_angles_are_read_from_latents_that_hold_them(perfect: tuple[dict[str, Any], Any]) -> None:
    found = perfect[0]["probes"]["latent"]
    assert [len(rows) for rows in found.values()] == [4, 2, 4]
    for row in found["coordinates"].values():
        assert row["ridge"]["r2"] > 0.999
        assert row["mlp"]["r2"] > 0.99
        assert row["knn"]["r2"] > 0.9
        assert row["logistic"]["accuracy"] > 0.8
    for row in found["changes"].values():
        assert row["ridge"]["r2"] > 0.999


def test_nothing_is_read_from_noise(sides: tuple[Windows, Windows]) -> None:
    class Noise(DotModel):
        def encode(self, frames: Tensor) -> Tensor:
            return torch.randn(*frames.shape[:-3], 4)

    for rows in probed(Noise(), sides).values():
        for row in rows.values():
            assert all(row[kind]["r2"] < 0.15 for kind in ("ridge", "mlp", "knn"))
            # Of few held-out episodes a quarter may hold many frames.
            assert row["logistic"]["accuracy"] < row["logistic"]["chance"] + 0.2
            assert 0.1 < row["logistic"]["chance"] < 0.6


@pytest.mark.parametrize(("frames", "readable"), [(2, True), (1, False)])
def test_velocities_need_two_frames(tmp_path: Path, frames: int, readable: bool) -> None:
    rng, episodes = np.random.default_rng(0), []
    for _ in range(8):
        # Waves of their own frequency and phase, that stay within the picture.
        wave = np.arange(80)[:, None] * rng.uniform(0.2, 0.6, 2) + rng.uniform(0, 6, 2)
        qpos = 0.5 + 0.3 * np.sin(wave)
        qvel = np.diff(qpos, axis=0, prepend=qpos[:1])
        episode = {
            "pixels": dot_frames(qpos),
            "action": np.zeros((80, 2), np.float32),
            "qpos": qpos,
            "qvel": qvel,
        }
        episodes.append({name: column[1:] for name, column in episode.items()})
    store = Store(write_episodes(tmp_path, episodes))
    sides = [Windows(store, part, 2, 1) for part in (np.arange(6), np.arange(6, 8))]
    options = ProbeConfig(train_frames=400, test_frames=100, ridge=1e-3, seeds=1, mlp_steps=150)
    draws = draw(DotWorld(), encoder(Position()), *sides, frames, options)
    for row in probe_states(draws, options)[0]["probes"]["latent"]["velocities"].values():
        for kind, least in (("ridge", 0.99), ("mlp", 0.9)):
            assert (row[kind]["r2"] > least) == readable
            assert readable or row[kind]["r2"] < 0.2


def test_what_marks_an_episode_does_not_help_on_another(tmp_path: Path) -> None:
    """Episodes rest, each at a place of its own, and the latent tells which episode it is, no more: a probe
    that is judged on windows of the episodes it was fitted on is perfect, an honest one knows nothing."""
    places = np.random.default_rng(0).uniform(0.2, 0.8, (30, 1, 2)).repeat(20, 1)
    episodes = [
        {"pixels": np.full((20, 8, 8, 3), i, np.uint8), "action": q.astype(np.float32), "qpos": q, "qvel": q}
        for i, q in enumerate(places)
    ]
    store = Store(write_episodes(tmp_path, episodes))

    class Name(DotModel):
        def encode(self, frames: Tensor) -> Tensor:
            return torch.nn.functional.one_hot(frames[..., 0, 0, 0].long(), 30).float()

    training, held_out = (Windows(store, part, 2, 1) for part in split_episodes(30, 0.4, 0))
    options = ProbeConfig(train_frames=400, test_frames=200, seeds=1, mlp_steps=100)
    honest, leaking = (probed(Name(), (training, judge), options) for judge in (held_out, training))
    for task in ("coordinates", "velocities"):
        for kind in ("ridge", "mlp", "knn"):
            assert all(row[kind]["r2"] < 0.1 for row in honest[task].values())
            assert all(row[kind]["r2"] > 0.9 for row in leaking[task].values())


def test_each_frame_is_encoded_once_and_no_more_than_asked_for(sides: tuple[Windows, Windows]) -> None:
    class Counting(DotModel):
        seen = 0

        def encode(self, frames: Tensor) -> Tensor:
            self.seen += len(frames)
            return super().encode(frames)

    model = Counting()
    draws = drawn(model, sides, ProbeConfig(train_frames=1, test_frames=1, seeds=1))
    assert model.seen == 3 + 3
    assert [len(side.indices) for side in draws[:2]] == [1, 1]
    model.seen = 0
    everything = drawn(model, sides, ProbeConfig(train_frames=9999, test_frames=9999, seeds=3))
    assert model.seen == 12 * 40
    assert [len(indices) for indices in everything.of_seeds] == [len(sides[0])] * 3
    z = everything.train.tasks["velocities"].features["latent"].reshape(-1, 3, 4)
    assert np.array_equal(z, embed(DotModel(), sides[0], everything.train.indices, ""))


def test_probes_depend_on_their_seed(sides: tuple[Windows, Windows]) -> None:
    options = [ProbeConfig(train_frames=30, test_frames=20, seeds=1, mlp_steps=3, seed=s) for s in (1, 1, 2)]
    one, same, other = (probed(Noisy(), sides, o) for o in options)
    assert one == same != other


def test_a_collapsed_encoder_reads_nothing(sides: tuple[Windows, Windows]) -> None:
    class Collapsed(DotModel):
        def encode(self, frames: Tensor) -> Tensor:
            return torch.ones(*frames.shape[:-3], 4)

    for rows in probed(Collapsed(), sides).values():
        for row in rows.values():
            assert set(row) == set(KINDS)
            assert all(row[kind]["r2"] < 0.05 for kind in ("ridge", "mlp", "knn"))
            assert row["ridge"]["r"] == 0


def test_latents_are_measured_by_the_true_coordinates(perfect: tuple[dict[str, Any], Any]) -> None:
    results, _ = perfect
    assert list(results["probes"]) == ["latent", TRUTH]
    truth = results["means"][TRUTH]["coordinates"]["ridge"]["r2"]
    assert truth > 0.999
    mine = results["means"]["latent"]["coordinates"]["ridge"]["r2"]
    assert results["of_truth"]["coordinates"]["ridge"] == pytest.approx(mine / truth)
    assert results["of_truth"]["velocities"]["ridge"] is None, "the last step is lost between two frames"


def test_rollouts_are_as_deep_as_episodes_are_long() -> None:
    assert deepest([200, 200], context=3, frameskip=5, horizon=15) == 15
    # 11 frames that are 5 steps apart, 3 of them seen.
    assert deepest([200, 51], context=3, frameskip=5, horizon=15) == 8
    assert deepest([200, 50], context=3, frameskip=5, horizon=15) == 7
    assert deepest([200, 8], context=3, frameskip=5, horizon=15) == 0


@pytest.mark.parametrize("moves", [1.0, 0.0])
def test_an_imagined_latent_knows_what_its_model_imagines(
    sides: tuple[Windows, Windows], perfect: tuple[Any, dict[tuple[str, str], Reader]], moves: float
) -> None:
    """One model knows what actions do, the other believes that nothing moves."""
    model, readers = DotModel(moves), perfect[1]
    deep = [Windows(side.store, np.unique(side.episodes), 3 + 6, 2) for side in sides]
    curves = probe_rollouts(model, DotWorld(), *deep, readers, QUICK)["coordinates"]
    r2 = {name: [row["r2"] for row in rows] for name, rows in curves.items()}
    assert {len(rows) for rows in r2.values()} == {7}
    assert min(r2["ridge, seen"]) > 0.999
    assert r2["ridge, imagined"][0] > 0.999
    assert r2["ridge, still"][6] < 0.7
    if moves:
        assert min(r2["ridge, imagined"]) > 0.999
        assert min(r2["ridge, refitted"]) > 0.999
    else:
        assert r2["ridge, imagined"] == pytest.approx(r2["ridge, still"], abs=1e-4)
        assert r2["mlp, imagined"] == pytest.approx(r2["mlp, still"], abs=1e-4)
        assert r2["ridge, refitted"][6] < 0.9

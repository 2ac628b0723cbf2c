"""Scores of probes and their intervals, against scikit-learn and a bootstrap written out."""

import numpy as np
import pytest
from sklearn.metrics import r2_score

from worldjepa.evaluation.probe_scores import correlation, resampled, score_classes, score_values
from worldjepa.evaluation.regressors import REGRESSORS, Settings, fit_mlp, quartiles


def made(seeds: int = 2, frames: int = 120, values: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values far from 0, each seed's predictions, and episodes of several lengths, which lie mixed."""
    rng = np.random.default_rng(0)
    y = 1000 + rng.normal(size=(frames, values))
    predicted = y + rng.normal(size=(seeds, frames, values)) * [0.1, 0.5, 1.0]
    return y, predicted, rng.choice([3, 5, 11, 12], frames, p=[0.1, 0.2, 0.3, 0.4])


def test_scores_are_those_of_scikit_learn() -> None:
    y, predicted, episodes = made()
    rows, mean = score_values(y, predicted, episodes)
    for i, row in enumerate(rows):
        assert row["r2"] == pytest.approx(np.mean([r2_score(y[:, i], p[:, i]) for p in predicted]), abs=1e-9)
        r = np.mean([np.corrcoef(y[:, i], p[:, i])[0, 1] for p in predicted])
        assert row["r"] == pytest.approx(r, abs=1e-9)
    assert mean["r2"] == pytest.approx(np.mean([row["r2"] for row in rows]))


def test_the_bootstrap_draws_whole_episodes() -> None:
    y, predicted, episodes = made()
    index, drawn = resampled(episodes)
    assert drawn.shape == (1000, 4)
    assert (drawn.sum(1) == 4).all()
    of_each = []
    for times in drawn:
        frames = np.repeat(np.arange(len(y)), times[index])
        of_each.append([r2_score(y[frames], p[frames], multioutput="raw_values") for p in predicted])
    again = np.mean(of_each, 1)
    rows, mean = score_values(y, predicted, episodes)
    for i, row in enumerate(rows):
        assert row["episodes"] == pytest.approx(np.quantile(again[:, i], [0.025, 0.975]), abs=1e-9)
    assert mean["episodes"] == pytest.approx(np.quantile(again.mean(1), [0.025, 0.975]), abs=1e-9)


def test_the_interval_over_seeds_is_students() -> None:
    y, predicted, episodes = made(seeds=2)
    scores = [r2_score(y[:, 2], p[:, 2]) for p in predicted]
    # t of one degree of freedom at 97.5 %.
    half = 12.7062 * np.std(scores, ddof=1) / np.sqrt(2)
    row = score_values(y, predicted, episodes)[0][2]
    assert row["seeds"] == pytest.approx([np.mean(scores) - half, np.mean(scores) + half], rel=1e-4)
    alone = score_values(y, predicted[:1], episodes)[0][2]
    assert alone["seeds"] == [alone["r2"]] * 2


def test_values_that_do_not_vary() -> None:
    y, episodes = np.full((20, 1), 0.3), np.arange(20) // 5
    right, wrong = (score_values(y, y[None] + off, episodes)[0][0] for off in (0, 0.1))
    assert (right["r2"], right["episodes"], right["r"]) == (1, [1, 1], 0)
    assert (wrong["r2"], wrong["episodes"], wrong["r"]) == (0, [0, 0], 0)
    assert correlation(np.arange(5.0), np.full(5, 2.0)) == 0


def test_classes_are_counted() -> None:
    rng = np.random.default_rng(0)
    right, episodes = rng.random((2, 90, 2)) < [0.9, 0.4], np.arange(90) // 30
    rows, mean = score_classes(right, np.array([[0.2, 0.3], [0.3, 0.3]]), episodes)
    assert [row["accuracy"] for row in rows] == pytest.approx(right.mean((0, 1)))
    assert [row["chance"] for row in rows] == pytest.approx([0.25, 0.3])
    assert mean["accuracy"] == pytest.approx(right.mean())
    of_episodes = right[..., 0].mean(0).reshape(3, 30).mean(1)
    again = resampled(episodes)[1] @ of_episodes / 3
    assert rows[0]["episodes"] == pytest.approx(np.quantile(again, [0.025, 0.975]))


def test_quarters_are_those_of_training_values() -> None:
    x = np.linspace(-1, 1, 400)[:, None]
    right, chance = quartiles(x, x[:, 0], x[::7], x[::7, 0], alpha=1e-6)
    assert right.shape == (58,)
    assert right.mean() > 0.9
    assert chance == pytest.approx(0.25, abs=0.02)
    right, chance = quartiles(x, np.ones(400), x[::7], np.ones(58), alpha=1.0)
    assert (right.mean(), chance) == (1, 1)


def test_the_mlp_reads_what_is_not_linear_and_leaves_no_trace() -> None:
    import torch

    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (600, 2))
    y = np.stack([50 + 9 * x[:, 0] * x[:, 1], np.full(600, 7.0)], 1)
    before = torch.random.get_rng_state()
    one, same, other = (fit_mlp(x[:400], y[:400], Settings(1.0, 200, seed))(x[400:]) for seed in (0, 0, 1))
    assert torch.equal(before, torch.random.get_rng_state())
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert r2_score(y[400:, 0], one[:, 0]) > 0.9
    assert one[:, 1] == pytest.approx(7, abs=0.5)


@pytest.mark.parametrize("kind", REGRESSORS)
@pytest.mark.parametrize("values", [1, 2])
def test_every_kind_reads_as_many_values_as_it_was_given(kind: str, values: int) -> None:
    """Of fewer samples than there are neighbours, too."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 3)), rng.normal(size=(6, values))
    assert REGRESSORS[kind](x, y, Settings(1.0, 2, 0))(x[:4]).shape == (4, values)

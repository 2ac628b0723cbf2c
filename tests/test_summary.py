"""worldjepa.data.summary: what a data set is said to hold is what was written."""

import json
from pathlib import Path

import numpy as np
import pytest
from test_rewrite import EPISODES, LENGTHS, ORIGIN

from worldjepa.data.shards import Store, shard_path, write_shard
from worldjepa.data.summary import BINS, cover, summary
from worldjepa.errors import UserError


@pytest.fixture
def store(tmp_path: Path) -> Store:
    for index, some in enumerate((EPISODES[:2], EPISODES[2:])):
        write_shard(shard_path(tmp_path, index), some, ORIGIN.about, ORIGIN)
    return Store(tmp_path)


def test_sizes_columns_and_origin(store: Store) -> None:
    found = summary(store)
    assert json.loads(json.dumps(found)) == found
    assert (found["episodes"], found["frames"], found["files"]) == (5, sum(LENGTHS), 2)
    assert found["lengths"] == {"min": 1, "mean": 5.0, "max": 9}
    assert found["image"] == [8, 8, 3]
    assert found["bytes"] == sum(path.stat().st_size for path in store.path.iterdir())
    assert found["columns"]["qpos"] == {"shape": [3], "dtype": "float64", "not_finite": 0}
    assert found["columns"]["step_idx"] == {"shape": [], "dtype": "int64", "not_finite": 0}
    assert (found["about"], found["versions"], found["checksums"]) == (*ORIGIN, 2)
    assert found["left_out"] == []


def test_actions_that_lead_to_a_frame(store: Store) -> None:
    actions = np.concatenate([e["action"][:-1] for e in EPISODES]).astype(np.float64)
    found = summary(store)["action"]
    for name in ("mean", "std", "min", "max"):
        np.testing.assert_allclose(found[name], getattr(actions, name)(0))


def test_data_without_an_action_that_leads_anywhere(tmp_path: Path) -> None:
    write_shard(shard_path(tmp_path, 0), [{n: v[:1] for n, v in EPISODES[0].items()}], {})
    with pytest.raises(UserError, match="no frame but an episode's last has an action"):
        summary(Store(tmp_path))


def test_a_column_that_only_one_shard_has(store: Store) -> None:
    write_shard(shard_path(store.path, 2), [EPISODES[0] | {"light": np.zeros(5)}], {"other": 1})
    found = summary(Store(store.path))
    assert found["left_out"] == ["light"]
    assert found["about"] is None
    assert "light" not in found["columns"]


def test_coverage_by_name(store: Store) -> None:
    assert list(summary(store)["coverage"]) == ["qpos 0", "qpos 1", "qpos 2", "action 0", "action 1"]

    def named(qpos: np.ndarray) -> dict[str, np.ndarray]:
        height = qpos[:, 2]
        return {
            "sin arm": np.sin(qpos[:, 0]),
            "height": height,
            "cos arm": np.cos(qpos[:, 0]),
            "cos x": height,
        }

    coverage = summary(store, named)["coverage"]
    assert list(coverage) == ["arm", "height", "cos x", "action 0", "action 1"]
    assert [row["angle"] for row in coverage.values()] == [True, False, False, False, False]
    wrapped = (np.concatenate([e["qpos"][:, 0] for e in EPISODES]) + np.pi) % (2 * np.pi) - np.pi
    expected, _ = np.histogram(wrapped, BINS, (-np.pi, np.pi))
    assert coverage["arm"]["counts"] == expected.tolist()


@pytest.mark.parametrize("kinds", [1, 2, 10, BINS])
def test_filled_is_the_share_of_bins_that_are_equally_used(kinds: int) -> None:
    values = np.repeat(np.arange(kinds) / BINS, 50) + 0.5 / BINS
    # The circle's bins, so that the range does not depend on the values.
    found = cover(2 * np.pi * values - np.pi, angle=True)
    assert found["filled"] == pytest.approx(kinds / BINS)
    assert sum(found["counts"]) == 50 * kinds


def test_coverage_of_little() -> None:
    assert cover(np.full(9, 3.0))["filled"] == 1 / BINS
    assert cover(1 + np.arange(9) * 2.0**-52)["filled"] == 1 / BINS
    assert cover(np.array([np.nan, np.inf]))["filled"] == 0
    assert cover(np.array([1.0, np.nan, 3.0]))["low"] == 1
    assert cover(np.array([1.0, np.nan, 3.0]))["high"] == 3

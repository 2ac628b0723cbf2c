"""Goals shared out over ranks: what each plays, and what comes of all of them."""

from typing import Any

import numpy as np
import pytest
from moving_dot import DotWorld
from test_goals import Steady, along

from worldjepa.evaluation import goals_over_ranks
from worldjepa.evaluation.goals import Outcome, play
from worldjepa.evaluation.goals_over_ranks import play_over_ranks


def each_part(
    monkeypatch: pytest.MonkeyPatch, ranks: int, *values: Any, **rules: Any
) -> list[Outcome | None]:
    """What each of several ranks plays, one after the other in this process, the last first, since it
    is never without goals."""
    parts: list[Outcome | None] = []
    monkeypatch.setattr(goals_over_ranks, "world_size", lambda: ranks)
    # Each hands over its part and gets back one that is there.
    monkeypatch.setattr(goals_over_ranks, "gather_objects", lambda part: parts.insert(0, part) or parts)
    for number in reversed(range(ranks)):
        monkeypatch.setattr(goals_over_ranks, "rank", lambda number=number: number)
        play_over_ranks(*values, **rules)
    return parts


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_parts_together_are_what_one_plays(monkeypatch: pytest.MonkeyPatch, ranks: int) -> None:
    goals = along(5, 2, 7, 3.5)
    whole = play(DotWorld(), goals, Steady(), budget=10, record=3)
    parts = each_part(monkeypatch, ranks, DotWorld(), goals, Steady(), 10, record=3)
    assert max(len(part.success) for part in parts if part) < 4
    joined = goals_over_ranks.joined([part for part in parts if part])
    np.testing.assert_array_equal(joined.success, whole.success)
    np.testing.assert_array_equal(joined.steps, whole.steps)
    np.testing.assert_array_equal(joined.error, whole.error)
    np.testing.assert_array_equal(joined.goal_frames, whole.goal_frames)
    assert [len(frames) for frames in joined.frames] == [len(frames) for frames in whole.frames]
    assert joined.decisions == whole.decisions


def test_a_rank_without_goals_plays_none(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = each_part(monkeypatch, 3, DotWorld(), along(5, 2), Steady(), 10)
    assert sorted(0 if part is None else len(part.success) for part in parts) == [0, 1, 1]


def test_alone_nothing_is_shared() -> None:
    goals = along(5, 2)
    one, other = (f(DotWorld(), goals, Steady(), budget=10) for f in (play, play_over_ranks))
    np.testing.assert_array_equal(one.success, other.success)

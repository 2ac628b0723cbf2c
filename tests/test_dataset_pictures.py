"""worldjepa.evaluation.dataset_pictures: frames where they belong, a figure for every kind of coverage."""

from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
from moving_dot import write_dots

from worldjepa.data.shards import Store
from worldjepa.data.summary import cover, summary
from worldjepa.evaluation.dataset_pictures import contact_sheet, coverage_figure, film_frames


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(write_dots(tmp_path / "data", episodes=5, length=12))


def frame(store: Store, episode: int, step: int) -> np.ndarray:
    return store.gather("pixels", np.array([episode]), np.array([[step]]))[0, 0]


def test_a_contact_sheet_goes_from_first_frame_to_last(store: Store) -> None:
    sheet = contact_sheet(store, np.array([0, 3]), columns=4)
    # Frames of 32 pixels are shown three times as large, with 2 pixels between.
    assert sheet.shape == (2 * 98, 4 * 98, 3)
    for row, episode in enumerate((0, 3)):
        for column, step in enumerate((0, 4, 7, 11)):
            cell = sheet[98 * row :, 98 * column :][:96:3, :96:3]
            np.testing.assert_array_equal(cell, frame(store, episode, step))


def test_a_film_shows_every_episode_at_every_step(store: Store) -> None:
    pictures = film_frames(store, np.arange(5), columns=4)
    assert len(pictures) == 12
    assert {p.shape for p in pictures} == {(2 * 98, 4 * 98, 3)}
    np.testing.assert_array_equal(pictures[7][:96:3, 98 : 98 + 96 : 3], frame(store, 1, 7))
    np.testing.assert_array_equal(pictures[11][98 : 98 + 96 : 3, :96:3], frame(store, 4, 11))
    assert (pictures[0][98:, 98:] == 255).all()
    assert len(film_frames(store, np.array([2]), longest=5)) == 5


@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_a_figure_of_any_number_of_coordinates(store: Store, tmp_path: Path, count: int) -> None:
    results = summary(store)
    values = np.random.default_rng(0).normal(size=400)
    kinds = [cover(values), cover(values, angle=True), cover(np.zeros(5)), cover(np.array([np.nan]))]
    results["coverage"] = {f"coordinate {i}": kinds[i % 4] for i in range(count)}
    path = coverage_figure(results, tmp_path / "coverage.png")
    picture = imageio.imread(path)
    assert picture.std() > 0
    # Four in a row, at 150 pixels an inch.
    assert picture.shape[1] == round(2.6 * min(4, count) * 150)
    assert [p.name for p in tmp_path.iterdir()] in (["coverage.png", "data"], ["data", "coverage.png"])

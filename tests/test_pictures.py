"""Sheets, films and moving pictures: every frame where it belongs, and readable by others."""

import io
from pathlib import Path

import imageio.v3 as imageio
import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from worldjepa.evaluation.pictures import (
    MISSED,
    REACHED,
    add_gif,
    bordered,
    enlarge,
    film,
    gif_bytes,
    tile,
    write_film,
)
from worldjepa.run import Run


def frame(value: int, height: int = 8, width: int = 8) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


# Sheets


def test_a_sheet_holds_its_frames_in_rows() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 6, 3), np.uint8)
    sheet = tile(frames, scale=2, gap=3)
    assert sheet.shape == (2 * (16 + 3), 3 * (12 + 3), 3)
    assert sheet.dtype == np.uint8
    for row in range(2):
        for column in range(3):
            cell = sheet[row * 19 : row * 19 + 16, column * 15 : column * 15 + 12]
            assert np.array_equal(cell, enlarge(frames[row, column], 2))
    assert (sheet[16:19] == 255).all()
    assert (sheet[:, 12:15] == 255).all()


def test_shorter_rows_are_filled_with_white() -> None:
    sheet = tile([[frame(1), frame(2)], [frame(3)]], gap=0)
    assert sheet.shape == (16, 16, 3)
    assert sheet[::8, ::8, 0].tolist() == [[1, 2], [3, 255]]


def test_enlarging_repeats_every_pixel() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    assert np.array_equal(enlarge(picture, 3), np.kron(picture, np.ones((3, 3, 1), np.uint8)))


def test_a_border_is_drawn_into_a_copy() -> None:
    picture = frame(9)
    result = bordered(picture, (1, 2, 3), thickness=2)
    assert (picture == 9).all()
    assert (result[2:-2, 2:-2] == 9).all()
    inside = np.zeros((8, 8), bool)
    inside[2:-2, 2:-2] = True
    assert (result[~inside] == (1, 2, 3)).all()


# Films


def episodes(*lengths: int) -> list[list[np.ndarray]]:
    """Frame t of episode e has the grey value 20 e + t."""
    return [[frame(20 * e + t) for t in range(length)] for e, length in enumerate(lengths)]


def cell(picture: np.ndarray, episode: int, part: int, columns: int) -> np.ndarray:
    """Start, now or goal (0, 1, 2) of an episode, without what a border may cover, as seen at scale 2."""
    top, left = (episode // columns) * (16 + 6), (episode % columns) * (48 + 6) + 16 * part
    return picture[top : top + 16, left : left + 16]


def test_a_film_shows_start_now_and_goal_side_by_side() -> None:
    goals, success = np.stack([frame(200 + e) for e in range(5)]), np.array([True, False, True, True, False])
    pictures = film(episodes(4, 3, 6, 2, 5), goals, success, scale=2, columns=3)
    assert len(pictures) == 6 + 10
    assert {p.shape for p in pictures} == {(2 * (16 + 6), 3 * (48 + 6), 3)}
    for t, picture in enumerate(pictures):
        for e, length in enumerate((4, 3, 6, 2, 5)):
            start, now, goal = (cell(picture, e, part, columns=3) for part in range(3))
            assert (start == 20 * e).all()
            assert (goal == 200 + e).all()
            assert (now[5:-5, 5:-5] == 20 * e + min(t, length - 1)).all()
            # A border says that an episode is over, its colour how it went.
            ended = t >= length - 1
            colour = (REACHED if success[e] else MISSED) if ended else (20 * e + t,) * 3
            assert (now[0] == colour).all()
            assert (now[:, -1] == colour).all()
    # The place of the sixth episode stays white.
    assert (pictures[0][22:38, 2 * 54 : 2 * 54 + 48] == 255).all()


def test_a_film_of_one_episode_is_one_episode_wide() -> None:
    pictures = film(episodes(2), frame(7)[None], np.array([True]), scale=1)
    assert pictures[0].shape == (8 + 6, 24 + 6, 3)


# Files


def test_a_film_is_written_as_video_and_as_moving_picture(tmp_path: Path) -> None:
    # Odd sizes, which H.264 does not take.
    pictures = [np.random.default_rng(t).integers(0, 256, (33, 47, 3), np.uint8) for t in range(9)]
    mp4, gif = write_film(pictures, tmp_path / "plan", fps=20)
    assert (mp4.name, gif.name) == ("plan.mp4", "plan.gif")
    assert imageio_ffmpeg.count_frames_and_secs(mp4) == (9, pytest.approx(9 / 20))
    assert imageio.imread(gif, index=None).shape[:3] == (5, 32, 46)


def play_back(gif: bytes) -> list[tuple[np.ndarray, int]]:
    """Frames of a GIF, each with the milliseconds that it stays."""
    with Image.open(io.BytesIO(gif)) as image:
        result = []
        for index in range(image.n_frames):
            image.seek(index)
            result.append((np.asarray(image.convert("RGB")), int(image.info["duration"])))
        assert image.info["loop"] == 0
        return result


def test_a_moving_picture_decodes_to_its_frames() -> None:
    played = play_back(gif_bytes([frame(20 * t, 16, 24) for t in range(7)], fps=10))
    assert [int(picture.mean()) for picture, _ in played] == pytest.approx([20 * t for t in range(7)], abs=2)
    assert {picture.shape for picture, _ in played} == {(16, 24, 3)}
    assert [duration for _, duration in played] == [100] * 7


def test_what_stands_still_stays_as_long() -> None:
    """Equal frames may become one, as long as the film lasts as long."""
    played = play_back(gif_bytes([frame(10), frame(200), frame(200), frame(200), frame(90)], fps=20))
    assert sum(duration for _, duration in played) == 5 * 50


def test_tensorboard_gets_the_moving_picture(empty_run: Run) -> None:
    gif = gif_bytes([frame(20 * t, 16, 24) for t in range(7)], fps=10)
    add_gif(empty_run.writer, "eval/planned_episodes", gif, 16, 24, step=400)
    empty_run.close()
    (event,) = EventAccumulator(str(empty_run.path)).Reload().Images("eval/planned_episodes")
    assert (event.step, event.height, event.width) == (400, 16, 24)
    assert event.encoded_image_string == gif
    assert gif.startswith(b"GIF89a")
    assert len(play_back(event.encoded_image_string)) == 7

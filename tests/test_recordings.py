"""worldjepa.data.recordings: videos and folders of frames, and their actions, become episodes."""

from collections.abc import Callable
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest

from worldjepa.data.recordings import read_recordings, read_table, recordings, video_frames
from worldjepa.errors import UserError

FRAMES = 12


def pictures(seed: int, height: int = 24, width: int = 32) -> np.ndarray:
    """(T, H, W, 3) uint8 that lossy video keeps nearly: coarse blocks, changing from frame to frame."""
    coarse = np.random.default_rng(seed).integers(40, 216, (FRAMES, height // 8, width // 8, 3), np.uint8)
    return coarse.repeat(8, 1).repeat(8, 2)


ACTIONS = np.random.default_rng(9).uniform(-1, 1, (FRAMES, 2)).astype(np.float32)


def frame_folder(path: Path, seed: int, kind: str = ".png") -> None:
    path.mkdir(parents=True)
    # Numbers without leading zeros: frame_2 comes before frame_10.
    for index, frame in enumerate(pictures(seed)):
        imageio.imwrite(path / f"frame_{index}{kind}", frame)


def read(folder: Path, image_size: int = 0) -> list[dict[str, np.ndarray]]:
    return list(read_recordings(recordings(folder), image_size))


def test_folders_of_frames_with_npz_beside(tmp_path: Path) -> None:
    for index in (2, 10, 1):
        frame_folder(tmp_path / f"episode{index}", index)
        np.savez(tmp_path / f"episode{index}.npz", action=ACTIONS + index, qpos=np.eye(FRAMES), fps=25)
    (tmp_path / "notes.txt").write_text("not a recording")
    found = read(tmp_path)
    assert len(found) == 3
    for index, episode in zip((1, 2, 10), found, strict=True):
        assert set(episode) == {"pixels", "action", "qpos"}
        np.testing.assert_array_equal(episode["pixels"], pictures(index))
        np.testing.assert_array_equal(episode["action"], ACTIONS + index)
        np.testing.assert_array_equal(episode["qpos"], np.eye(FRAMES))


def test_videos_of_ten_bits_a_colour(tmp_path: Path) -> None:
    imageio.imwrite(tmp_path / "deep.mp4", pictures(0), fps=10, codec="libx264", macro_block_size=8,
                    plugin="FFMPEG", quality=10, pixelformat="yuv420p10le")  # fmt: skip
    frames = np.stack(list(video_frames(tmp_path / "deep.mp4")))
    assert frames.shape == (FRAMES, 24, 32, 3)
    assert np.median(np.abs(frames.astype(int) - pictures(0))) < 8


def test_videos_with_csv_beside(tmp_path: Path) -> None:
    for name in ("a", "b.1"):
        imageio.imwrite(tmp_path / f"{name}.mp4", pictures(0), fps=10, codec="libx264", macro_block_size=8,
                        plugin="FFMPEG", quality=10)  # fmt: skip
        lines = [
            "action_x,reward,action_y",
            *(f"{x!r},{i},{y!r}" for i, (x, y) in enumerate(ACTIONS.tolist())),
        ]
        (tmp_path / f"{name}.csv").write_text("\n".join(lines))
    for episode in read(tmp_path):
        assert episode["pixels"].shape == (FRAMES, 24, 32, 3)
        off = np.abs(episode["pixels"].astype(int) - pictures(0))
        assert np.median(off) < 8, "the video's own loss, no more"
        np.testing.assert_array_equal(episode["action"], ACTIONS)
        np.testing.assert_array_equal(episode["reward"], np.arange(FRAMES))
        assert episode["action"].dtype == np.float32


@pytest.mark.parametrize("size", [8, 16, 48])
def test_frames_are_cut_square_and_resized(tmp_path: Path, size: int) -> None:
    frame_folder(tmp_path / "a", 0)
    np.savez(tmp_path / "a.npz", action=ACTIONS)
    (episode,) = read(tmp_path, size)
    assert episode["pixels"].shape == (FRAMES, size, size, 3)
    if size == 8:
        # The middle 24 × 24 of 24 × 32, a third of it in each direction: a mean of 3 × 3 pixels.
        middle = pictures(0)[:, :, 4:28].reshape(FRAMES, 8, 3, 8, 3, 3).mean((2, 4))
        np.testing.assert_allclose(episode["pixels"], middle, atol=1)


def test_grey_and_transparent_pictures_become_rgb(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    imageio.imwrite(tmp_path / "a" / "0.png", np.full((8, 8), 7, np.uint8))
    imageio.imwrite(tmp_path / "a" / "1.png", np.full((8, 8, 4), 9, np.uint8))
    np.savez(tmp_path / "a" / "actions.npz", action=[[1], [2]])
    (episode,) = read(tmp_path)
    assert episode["pixels"].shape == (2, 8, 8, 3)
    assert episode["pixels"][:, 0, 0].tolist() == [[7] * 3, [9] * 3]


# Tables


def table(tmp_path: Path, text: str, frames: int = 3) -> dict[str, np.ndarray]:
    (tmp_path / "x.csv").write_text(text)
    return read_table(tmp_path / "x.csv", frames)


def test_a_csv_without_a_header_is_all_action(tmp_path: Path) -> None:
    columns = table(tmp_path, "1,2\n3,4\n-5,6e-1\n")
    assert list(columns) == ["action"]
    np.testing.assert_allclose(columns["action"], [[1, 2], [3, 4], [-5, 0.6]])


def test_the_last_action_may_be_left_away(tmp_path: Path) -> None:
    columns = table(tmp_path, "action\n1\n2\n")
    np.testing.assert_array_equal(columns["action"], [[1], [2], [np.nan]])


def test_one_number_an_action_may_be_flat_and_columns_of_ours_are_left_out(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", action=np.arange(3), step_idx=np.arange(3), pixels=np.zeros(3), ep_len=[3])
    columns = read_table(tmp_path / "x.npz", 3)
    assert list(columns) == ["action"]
    assert columns["action"].tolist() == [[0], [1], [2]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a table"),
        ("action\n", "not a table"),
        ("action,reward\n1\n2\n3\n", "not a table"),
        ("1,2\n3\n4,5\n", "not a table"),
        ("reward\n1\n2\n3\n", "has no column action; it has reward"),
        ("action\n1\nleft\n3\n", "could not convert string to float"),
        ("action\n1\n", "action has 1 rows, the recording has 3 frames"),
        ("action\n1\n2\n3\n4\n", "action has 4 rows, the recording has 3 frames"),
        ("action,reward\n1,1\n2,2\n", "reward has 2 rows, the recording has 3 frames"),
    ],
)
def test_a_csv_that_is_no_table_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        table(tmp_path, text)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b"PK\x03\x04 and no more"),
        lambda path: path.write_bytes(b""),
        lambda path: np.savez(path, action=np.array([{}, {}, {}])),
        lambda path: np.savez(path, action=np.zeros((3, 2, 2))),
        lambda path: np.savez(path, action=np.zeros((3, 2), complex)),
        lambda path: np.savez(path, other=np.zeros((3, 2))),
    ],
)
def test_an_npz_that_is_none_is_refused(tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    spoil(tmp_path / "x.npz")
    with pytest.raises(UserError, match=r"x\.npz: "):
        read_table(tmp_path / "x.npz", 3)


# What is wrong is named


def test_nothing_to_convert(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match=r"holds no shard.*, videos .* or folders of pictures"):
        recordings(tmp_path)


def test_a_recording_without_actions(tmp_path: Path) -> None:
    frame_folder(tmp_path / "a", 0)
    with pytest.raises(UserError, match=r"a: has no actions; they are looked for in .*a\.npz, .*a\.csv"):
        recordings(tmp_path)


def test_a_video_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(bytes(1000))
    np.savez(tmp_path / "a.npz", action=ACTIONS)
    with pytest.raises(UserError, match=r"a\.mp4: can't be read"):
        read(tmp_path)


def test_frames_of_several_sizes(tmp_path: Path) -> None:
    frame_folder(tmp_path / "a", 0)
    np.savez(tmp_path / "a.npz", action=ACTIONS)
    imageio.imwrite(tmp_path / "a" / "frame_5.png", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(UserError, match="a: can't be read"):
        read(tmp_path)
    assert read(tmp_path, 16)[0]["pixels"].shape == (FRAMES, 16, 16, 3)


def test_recordings_that_are_not_alike(tmp_path: Path) -> None:
    for name, columns in (("a", {}), ("b", {"reward": np.zeros(FRAMES)})):
        frame_folder(tmp_path / name, 0)
        np.savez(tmp_path / f"{name}.npz", action=ACTIONS, **columns)
    with pytest.raises(UserError, match=r"b \(b\.\w+\): has action .*reward .*, .*a \(a\.\w+\) has action"):
        read(tmp_path)

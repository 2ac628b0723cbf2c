"""worldjepa.data.lerobot: data sets in LeRobot's layout, versions 2.1 and 3.0, become shards."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from worldjepa.cli import main
from worldjepa.data import lerobot
from worldjepa.data.lerobot import LeRobot
from worldjepa.data.recordings import video_frames
from worldjepa.data.shards import Store
from worldjepa.data.verify import verify
from worldjepa.errors import UserError

LENGTHS, FPS, TOP = (5, 8, 3), 10, "observation.images.top"
FEATURES = {
    "action": {"dtype": "float32", "shape": [2], "names": ["x", "y"]},
    "observation.state": {"dtype": "float32", "shape": [3], "names": None},
    "next.reward": {"dtype": "float32", "shape": [1], "names": None},
    "timestamp": {"dtype": "float32", "shape": [1], "names": None},
    "frame_index": {"dtype": "int64", "shape": [1], "names": None},
    "episode_index": {"dtype": "int64", "shape": [1], "names": None},
    "index": {"dtype": "int64", "shape": [1], "names": None},
    "task_index": {"dtype": "int64", "shape": [1], "names": None},
}
PATHS = {
    "v2.1": {
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    },
    "v3.0": {
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    },
}


def frames(episode: int, camera: str = TOP) -> np.ndarray:
    """(T, 32, 48, 3) uint8 in coarse blocks, which lossy video nearly keeps."""
    seed = (episode, len(camera))
    coarse = np.random.default_rng(seed).integers(40, 216, (LENGTHS[episode], 2, 3, 3), np.uint8)
    return coarse.repeat(16, 1).repeat(16, 2)


def numbers(episode: int) -> dict[str, np.ndarray]:
    rng, count = np.random.default_rng(episode + 10), LENGTHS[episode]
    before = sum(LENGTHS[:episode])
    return {
        "action": rng.normal(size=(count, 2)).astype(np.float32),
        "observation.state": rng.normal(size=(count, 3)).astype(np.float32),
        "next.reward": rng.normal(size=count).astype(np.float32),
        "timestamp": (np.arange(count) / FPS).astype(np.float32),
        "frame_index": np.arange(count),
        "episode_index": np.full(count, episode),
        "index": before + np.arange(count),
        "task_index": np.zeros(count, int),
    }


def write_table(path: Path, columns: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(
        pa.table({n: v if isinstance(v, list) else v.tolist() for n, v in columns.items()}), path
    )


def write_video(path: Path, pictures: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    imageio.imwrite(
        path, pictures, fps=FPS, codec="libx264", plugin="FFMPEG", quality=10, macro_block_size=16
    )


def write_info(folder: Path, version: str, cameras: tuple[str, ...], kind: str) -> None:
    pictures = {name: {"dtype": kind, "shape": [32, 48, 3]} for name in cameras}
    info = {"codebase_version": version, "robot_type": "arm", "total_episodes": len(LENGTHS), "fps": FPS}
    info |= {"chunks_size": 2, "features": FEATURES | pictures} | PATHS[version]
    (folder / "meta").mkdir(parents=True, exist_ok=True)
    (folder / "meta" / "info.json").write_text(json.dumps(info))


def write_two(folder: Path, cameras: tuple[str, ...] = (TOP,), kind: str = "video") -> Path:
    """Version 2.1: a parquet file, and a video of each camera, for each episode; two episodes a chunk."""
    write_info(folder, "v2.1", cameras, kind)
    for episode in range(len(LENGTHS)):
        where = {"episode_chunk": episode // 2, "episode_index": episode}
        columns: dict[str, Any] = numbers(episode)
        for camera in cameras:
            if kind == "video":
                path = PATHS["v2.1"]["video_path"].format(video_key=camera, **where)
                write_video(folder / path, frames(episode, camera))
            else:
                stored = [imageio.imwrite("<bytes>", f, extension=".png") for f in frames(episode, camera)]
                columns[camera] = [{"bytes": png, "path": f"{i}.png"} for i, png in enumerate(stored)]
        write_table(folder / PATHS["v2.1"]["data_path"].format(**where), columns)
    return folder


def write_three(folder: Path) -> Path:
    """Version 3.0: episodes 0 and 1 in one file and one video, 2 in the next; its rows not in order."""
    write_info(folder, "v3.0", (TOP,), "video")
    places: list[dict[str, Any]] = []
    for file, episodes in enumerate(((0, 1), (2,))):
        where = {"chunk_index": 0, "file_index": file}
        parts = [numbers(e) for e in episodes]
        columns = {name: np.concatenate([part[name] for part in parts])[::-1] for name in parts[0]}
        write_table(folder / PATHS["v3.0"]["data_path"].format(**where), columns)
        video = PATHS["v3.0"]["video_path"].format(video_key=TOP, **where)
        write_video(folder / video, np.concatenate([frames(e) for e in episodes]))
        first = 0
        for episode in episodes:
            row = {"episode_index": episode, "length": LENGTHS[episode], "stats/action/min": [0.0, 0.0]}
            row |= {f"data/{name}": value for name, value in where.items()}
            row |= {f"videos/{TOP}/{name}": value for name, value in where.items()}
            row |= {f"videos/{TOP}/from_timestamp": first / FPS}
            first += LENGTHS[episode]
            places.append(row | {f"videos/{TOP}/to_timestamp": first / FPS})
    columns = {name: [place[name] for place in places] for name in places[0]}
    write_table(folder / "meta" / "episodes" / "chunk-000" / "file-000.parquet", columns)
    return folder


WRITE = {"2.1": write_two, "3.0": write_three}


def seen(pixels: np.ndarray, wanted: np.ndarray) -> bool:
    """Whether frames are these, but for what lossy video loses."""
    return bool(np.abs(pixels.astype(int) - wanted).mean() < 12)


@pytest.mark.parametrize("version", WRITE)
def test_shards_hold_what_the_data_set_held(tmp_path: Path, version: str, capsys):
    source = WRITE[version](tmp_path / "source")
    assert main(["data", "convert", str(source), f"store.to={tmp_path}/new", "collect.shard_episodes=2"]) == 0
    assert "3 episodes, 16 frames" in capsys.readouterr().out
    store = Store(tmp_path / "new")
    assert store.lengths.tolist() == list(LENGTHS)
    assert set(store.shards[0].columns) == {
        "pixels", "action", "observation", "next.reward", "timestamp", "task_index", "step_idx"
    }  # fmt: skip
    assert store.about["lerobot"] == {
        "folder": "source", "codebase_version": f"v{version}", "fps": FPS, "robot_type": "arm",
        "camera": TOP, "image_size": 0,
    }  # fmt: skip
    for episode, length in enumerate(LENGTHS):
        steps, wanted = np.arange(length)[None], numbers(episode)
        for name, theirs in {"action": "action", "observation": "observation.state"}.items():
            found = store.gather(name, np.array([episode]), steps)[0]
            np.testing.assert_array_equal(found, wanted[theirs].astype(found.dtype))
        pixels = store.gather("pixels", np.array([episode]), steps)[0]
        assert seen(pixels, frames(episode))
        assert not seen(pixels[:3], frames((episode + 1) % 3)[:3])
    assert [finding.problems for finding in verify(tmp_path / "new")] == [[], []]


def test_the_camera_that_is_named_and_frames_of_one_size(tmp_path: Path):
    wrist = "observation.images.wrist"
    source = write_two(tmp_path / "source", (TOP, wrist))
    told = [f"store.to={tmp_path}/new", f"store.camera={wrist}", "store.image_size=16"]
    assert main(["data", "convert", str(source), *told]) == 0
    store = Store(tmp_path / "new")
    pixels = store.gather("pixels", np.array([0]), np.arange(5)[None])[0]
    assert pixels.shape == (5, 16, 16, 3)
    middle = frames(0, wrist)[:, :, 8:40].reshape(5, 16, 2, 16, 2, 3).mean((2, 4))
    assert seen(pixels, middle)
    for camera in ("", "camera"):
        with pytest.raises(UserError, match=rf"store\.camera.*{TOP}, {wrist}$"):
            LeRobot(source, camera)


def test_pictures_within_the_rows(tmp_path: Path):
    source = write_two(tmp_path / "source", kind="image")
    for episode, found in enumerate(LeRobot(source).read(0)):
        np.testing.assert_array_equal(found["pixels"], frames(episode))
        np.testing.assert_array_equal(found["action"], numbers(episode)["action"])


def test_a_video_of_many_episodes_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from worldjepa.data import lerobot

    opened, decode = [], lerobot.video_frames
    monkeypatch.setattr(lerobot, "video_frames", lambda path: opened.append(path.name) or decode(path))
    assert len(list(LeRobot(write_three(tmp_path / "source")).read(0))) == 3
    assert opened == ["file-000.mp4", "file-001.mp4"]


def changed(path: Path, change: Any) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def damage(kind: str, folder: Path) -> None:
    info, data = folder / "meta" / "info.json", folder / "data" / "chunk-000"
    if kind == "old":
        changed(info, lambda i: i | {"codebase_version": "v1.6"})
    elif kind == "no json":
        info.write_text("{")
    elif kind == "lacking":
        changed(info, lambda i: {n: v for n, v in i.items() if n != "features"})
    elif kind == "no path":
        changed(info, lambda i: i | {"data_path": []})
    elif kind == "no rows":
        next(data.glob("*0.parquet")).unlink()
    elif kind == "torn":
        next(data.glob("*0.parquet")).write_bytes(b"PAR1")
    elif kind == "short":
        video = next((folder / "videos").rglob("*0.mp4"))
        video.unlink()
        write_video(video, frames(0)[:3])
    elif kind == "no video":
        next((folder / "videos").rglob("*0.mp4")).unlink()
    elif kind == "no action":
        path = next(data.glob("*0.parquet"))
        parquet.write_table(parquet.ParquetFile(path).read().drop_columns("action"), path)


@pytest.mark.parametrize("version", WRITE)
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("old", r"info\.json: version v1\.6; v2\.0, v2\.1 and v3\.0 are read"),
        ("no json", r"info\.json: is not a LeRobot data set's"),
        ("lacking", r"info\.json: is not a LeRobot data set's \('features'\)"),
        ("no path", r"info\.json: is not a LeRobot data set's \(data_path or video_path is no text"),
        ("no rows", r"0\.parquet: can't be read"),
        ("torn", r"0\.parquet: can't be read"),
        ("short", r"0\.mp4: ends \d+ frames before episode \d does"),
        ("no video", r"0\.mp4: can't be read"),
        ("no action", r"has no feature action"),
    ],
)
def test_what_is_wrong_is_one_line_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], version: str, kind: str, words: str
):
    source = WRITE[version](tmp_path / "source")
    damage(kind, source)
    with pytest.raises(UserError, match=words):
        list(LeRobot(source).read(0))
    assert main(["data", "convert", str(source), f"store.to={tmp_path}/new"]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["source"]


@pytest.mark.parametrize("version", WRITE)
@pytest.mark.parametrize("spoilt", range(2))
def test_what_ffmpeg_tells_after_the_last_frame_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, spoilt: int
):
    """Of damaged frames it makes what it can."""
    source = WRITE[version](tmp_path / "source")
    videos = sorted((source / "videos").rglob("*.mp4"))
    told_of = [videos[0], videos[-1]][spoilt]

    def made(path: Path) -> Iterator[np.ndarray]:
        yield from video_frames(path)
        if path == told_of:
            raise OSError("error while decoding MB 1 2")

    monkeypatch.setattr(lerobot, "video_frames", made)
    with pytest.raises(UserError, match=rf"{told_of.name}: can't be read \(error while decoding MB 1 2"):
        list(LeRobot(source).read(0))


def test_places_that_are_not_told(tmp_path: Path):
    source = write_three(tmp_path / "source")
    path = source / "meta" / "episodes" / "chunk-000" / "file-000.parquet"
    table = parquet.ParquetFile(path).read()
    parquet.write_table(table.drop_columns(f"videos/{TOP}/file_index"), path)
    with pytest.raises(UserError, match=r"does not say 'videos/.*/file_index' of episode 0"):
        list(LeRobot(source).read(0))
    path.unlink()
    with pytest.raises(UserError, match="holds no parquet files"):
        LeRobot(source)


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = write_two(tmp_path / "source")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"needs pyarrow; `pip install worldjepa\[lerobot\]`"):
        list(LeRobot(source).read(0))

"""LeRobot's data sets as episodes: versions 2.0 and 2.1, a file for each episode, and 3.0, many in one.

`meta/info.json` says where rows (`data/*.parquet`) and frames (`videos/*.mp4`, or pictures within the rows)
lie. In 3.0, `meta/episodes/*.parquet` says which file holds an episode, and from what second of the video on.
Row t holds what was seen at step t and the action taken there, as ours do.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..documents import OTHER_FORM, from_json
from ..errors import UserError
from .recordings import RESERVED, alike, is_column_name, picture, sized, video_frames

INFO = Path("meta", "info.json")
# Counters, which are made anew.
COUNTERS = ("frame_index", "episode_index", "index")
# What our columns are called otherwise.
NAMES = {"observation.state": "observation"}


@dataclass(frozen=True)
class Video:
    """Where an episode's frames begin in a file."""

    path: Path
    first: int


class LeRobot:
    """A data set's folder.

    Args:
        folder: holds `meta/info.json`.
        camera: the feature that the frames come from; empty: the only one there is.

    Attributes:
        about: what is told of it: version, frames per second, robot, camera.
        episodes: their numbers, in order.

    Raises:
        UserError: it is not of a known version, damaged, or has no such camera; pyarrow is not installed.
    """

    def __init__(self, folder: Path, camera: str = ""):
        self.folder = folder
        try:
            info = from_json((folder / INFO).read_bytes())
            version = str(info["codebase_version"])
            self._features: dict[str, Any] = {name: dict(told) for name, told in info["features"].items()}
            self._fps, self._chunk = float(info["fps"]), int(info.get("chunks_size", 1000))
            self._paths = {"data": info["data_path"], "video": info.get("video_path") or ""}
            if not all(isinstance(path, str) for path in self._paths.values()):
                raise TypeError(f"data_path or video_path is no text: {self._paths}")
            count = int(info["total_episodes"])
        except (OSError, *OTHER_FORM) as error:
            raise UserError(f"{folder / INFO}: is not a LeRobot data set's ({_line(error)})") from None
        if not version.startswith(("v2.", "v3.")):
            raise UserError(f"{folder / INFO}: version {version}; v2.0, v2.1 and v3.0 are read")
        # What is read now: a table, and a video with the number of frames that were taken from it.
        self._table: tuple[Path, Any] | None = None
        self._open: tuple[Path, Iterator[np.ndarray]] | None = None
        self._at = 0
        self._places = self._read_places() if version.startswith("v3.") else None
        self.episodes: Sequence[int] = range(count) if self._places is None else sorted(self._places)
        self.camera = self._which(camera)
        self.about = {
            "folder": folder.name,
            "codebase_version": version,
            "fps": info["fps"],
            "robot_type": info.get("robot_type"),
            "camera": self.camera,
        }

    def read(self, image_size: int) -> Iterator[dict[str, np.ndarray]]:
        """Episodes: `pixels` (T, H, W, 3) uint8, `action` (T, A) float32, and the other numbers of a row.

        Args:
            image_size: as of `read_recordings`.

        Raises:
            UserError: a file is missing or damaged, has fewer frames than rows, or is not like the first.
        """
        yield from alike((f"{self.folder}: episode {e}", self._whole(e, image_size)) for e in self.episodes)
        self._close()

    def _whole(self, number: int, image_size: int) -> dict[str, np.ndarray]:
        try:
            return self._episode(number, image_size)
        except KeyError as error:
            raise UserError(f"{self.folder}: does not say {error} of episode {number}") from None
        except (OSError, *OTHER_FORM) as error:
            raise UserError(f"{self.folder}: episode {number} can't be read ({_line(error)})") from None

    def _episode(self, number: int, image_size: int) -> dict[str, np.ndarray]:
        table = self._rows(number)
        if "action" not in table.column_names:
            raise UserError(f"{self.folder}: has no feature action; it has {', '.join(self._features)}")
        columns = {}
        for name in table.column_names:
            ours = NAMES.get(name, name)
            kind = self._features.get(name, {}).get("dtype")
            if name in COUNTERS or ours in RESERVED or kind in ("image", "video", "string"):
                continue
            if not is_column_name(ours):
                continue
            values = np.array(table[name].to_pylist())
            if values.dtype.kind in "biuf":
                columns[ours] = values[:, 0] if values.shape[1:] == (1,) and name != "action" else values
        columns["action"] = columns["action"].reshape(len(table), -1).astype(np.float32)
        frames = [sized(frame, image_size) for frame in self._frames(number, table)]
        return {"pixels": np.stack(frames), **columns}

    def _rows(self, number: int) -> Any:
        """An episode's rows in order, a pyarrow table."""
        if self._places is None:
            where = {"episode_chunk": number // self._chunk, "episode_index": number}
        else:
            where = {
                name: int(self._places[number][f"data/{name}"]) for name in ("chunk_index", "file_index")
            }
        path = self.folder / self._paths["data"].format(**where)
        if self._table is None or self._table[0] != path:
            self._table = path, _read_parquet(path)
        table = self._table[1]
        rows = np.flatnonzero(table["episode_index"].to_numpy() == number)
        if not len(rows):
            raise UserError(f"{path}: has no rows of episode {number}")
        return table.take(rows).sort_by("frame_index")

    def _frames(self, number: int, table: Any) -> Iterator[np.ndarray]:
        """As many frames as there are rows."""
        if self._features[self.camera]["dtype"] == "image":
            for row, told in enumerate(table[self.camera].to_pylist()):
                stored = told["bytes"]
                name = f"{self.folder}: episode {number}, {self.camera} of row {row}"
                yield picture(io.BytesIO(stored) if stored else self.folder / told["path"], name)
            return
        video = self._video(number)
        count = 0
        for frame in self._from(video):
            yield frame
            count += 1
            if count == len(table):
                return
        raise UserError(f"{video.path}: ends {len(table) - count} frames before episode {number} does")

    def _video(self, number: int) -> Video:
        if self._places is None:
            where = {"episode_chunk": number // self._chunk, "episode_index": number}
            return Video(self.folder / self._paths["video"].format(video_key=self.camera, **where), 0)
        place, key = self._places[number], f"videos/{self.camera}"
        where = {name: int(place[f"{key}/{name}"]) for name in ("chunk_index", "file_index")}
        path = self.folder / self._paths["video"].format(video_key=self.camera, **where)
        return Video(path, round(place[f"{key}/from_timestamp"] * self._fps))

    def _from(self, video: Video) -> Iterator[np.ndarray]:
        """Frames of a video from one on; a file that holds many episodes is decoded once, not for each."""
        if self._open is None or self._open[0] != video.path or self._at > video.first:
            self._close()
            self._open, self._at = (video.path, video_frames(video.path)), 0
        try:
            for frame in self._open[1]:
                self._at += 1
                if self._at > video.first:
                    yield frame
        except (OSError, ValueError) as error:
            raise UserError(f"{video.path}: can't be read ({_line(error)})") from None

    def _close(self) -> None:
        """Read what is left of a video: only after its last frame ffmpeg tells what was damaged in it."""
        if self._open is not None:
            for _ in self._from(Video(self._open[0], self._at)):
                pass
        self._open = None

    def _read_places(self) -> dict[int, dict[str, Any]]:
        """Of each episode, where version 3 says that it lies."""
        files = sorted((self.folder / "meta" / "episodes").rglob("*.parquet"))
        if not files:
            raise UserError(f"{self.folder / 'meta' / 'episodes'}: holds no parquet files")
        wanted = ("chunk_index", "file_index", "from_timestamp")
        rows = []
        for file in files:
            table = _read_parquet(file)
            names = [n for n in table.column_names if n == "episode_index" or n.rpartition("/")[2] in wanted]
            rows += table.select(names).to_pylist()
        try:
            return {int(row["episode_index"]): row for row in rows}
        except OTHER_FORM as error:
            raise UserError(f"{files[0]}: does not number the episodes ({_line(error)})") from None

    def _which(self, camera: str) -> str:
        cameras = [n for n, feature in self._features.items() if feature.get("dtype") in ("image", "video")]
        if camera not in cameras if camera else len(cameras) != 1:
            asked = f"store.camera={camera}: no such feature" if camera else "store.camera: name one"
            raise UserError(f"{asked}; {self.folder} has {', '.join(cameras) or 'no cameras'}")
        return camera or cameras[0]


def _read_parquet(path: Path) -> Any:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise UserError(f"{path}: needs pyarrow; `pip install worldjepa[lerobot]` brings it") from None
    try:
        with parquet.ParquetFile(path) as file:
            return file.read()
    except (OSError, MemoryError, pyarrow.ArrowException) as error:
        raise UserError(f"{path}: can't be read ({_line(error)})") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__

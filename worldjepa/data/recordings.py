"""Episodes that others recorded: videos or folders of frames, with their actions in npz or csv.

The actions of `name.mp4`, or of a folder `name/` of pictures, are in `name.npz` or `name.csv` beside it; a
folder's also within it, as `actions.npz` or `actions.csv`. An npz holds `action` (T, A), and other columns of
T rows if there are any. A csv has a line a frame; its header names the columns, of which those that begin
with "action" are the action; without a header every column is. The last frame's action may be left away: no
frame follows it.
"""

import csv
import re
import subprocess
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from imageio_ffmpeg import get_ffmpeg_exe
from PIL import Image

from ..errors import UserError
from .pictures import DAMAGED_PICTURE, opened
from .shards import PER_EPISODE

VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".gif")
# Columns that are made of the frames.
RESERVED = ("pixels", "step_idx", *PER_EPISODE)
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
BAD_ZIP = (zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class Recording:
    """A video, or a folder of pictures, and the table of its actions."""

    frames: Path
    table: Path


def recordings(folder: Path) -> list[Recording]:
    """What a folder holds, in the order of names, numbers by their value.

    Raises:
        UserError: it holds no recording, or one without actions.
    """
    found = [p for p in folder.iterdir() if p.suffix.lower() in VIDEOS or (p.is_dir() and _pictures(p))]
    if not found:
        raise UserError(
            f"data.path={folder}: holds no shard-*.h5, videos ({', '.join(VIDEOS)}) or folders of pictures"
        )
    return [Recording(path, _table_of(path)) for path in sorted(found, key=_by_number)]


def read_recordings(found: list[Recording], image_size: int) -> Iterator[dict[str, np.ndarray]]:
    """Episodes: `pixels` (T, H, W, 3) uint8, `action` (T, A) float32, and the table's other columns.

    Args:
        image_size: frames are cut to their middle square and brought to this side, in pixels; 0: as they are.

    Raises:
        UserError: a file can't be read, or is not like the first.
    """
    yield from alike((f"{r.frames} ({r.table.name})", _episode(r, image_size)) for r in found)


def _episode(recording: Recording, image_size: int) -> dict[str, np.ndarray]:
    frames = _frames(recording.frames, image_size)
    return {"pixels": frames, **read_table(recording.table, len(frames))}


def alike(named: Iterable[tuple[str, dict[str, np.ndarray]]]) -> Iterator[dict[str, np.ndarray]]:
    """Episodes, each with what messages call it, seen to have the same columns, rows of the same shape.

    Raises:
        UserError: one is not like the first.
    """
    first: tuple[str, dict[str, tuple[int, ...]]] | None = None
    for name, episode in named:
        shapes = {column: values.shape[1:] for column, values in episode.items()}
        first = first or (name, shapes)
        if shapes != first[1]:
            raise UserError(f"{name}: has {_told(shapes)}, {first[0]} has {_told(first[1])}")
        yield episode


def read_table(path: Path, frames: int) -> dict[str, np.ndarray]:
    """The columns of an npz or csv, each (T, ...); `action` (T, A) float32, NaN where the last was left away.

    Raises:
        UserError: the file can't be read, has no action, or other numbers of rows.
    """
    columns = _read_npz(path) if path.suffix == ".npz" else _read_csv(path)
    if "action" not in columns:
        raise UserError(f"{path}: has no column action; it has {', '.join(columns) or 'none'}")
    if strange := [name for name in columns if not is_column_name(name)]:
        raise UserError(f"{path}: no column can be called {strange[0]!r}")
    action = columns["action"]
    if action.ndim not in (1, 2) or not action.size or action.dtype.kind not in "biuf":
        raise UserError(f"{path}: action is {action.dtype} {action.shape}, not numbers (T, A)")
    action = action.reshape(len(action), -1).astype(np.float32)
    if len(action) == frames - 1:
        action = np.concatenate([action, np.full((1, action.shape[1]), np.nan, np.float32)])
    columns = {name: values for name, values in columns.items() if name not in RESERVED} | {"action": action}
    for name, values in columns.items():
        if len(values) != frames:
            raise UserError(f"{path}: {name} has {len(values)} rows, the recording has {frames} frames")
    return columns


def is_column_name(name: str) -> bool:
    """Whether HDF5 takes it for one: a slash or a point is a place to it."""
    return name.isprintable() and name.strip() not in ("", ".") and "/" not in name


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        # Not np.load, which takes other kinds of file as well.
        with open(path, "rb") as held, np.lib.npyio.NpzFile(held, allow_pickle=False) as file:
            columns = {name: np.asarray(file[name]) for name in file.files}
    except (OSError, ValueError, EOFError, RuntimeError, LookupError, MemoryError, *BAD_ZIP) as error:
        raise UserError(f"{path}: not an npz of plain arrays ({' '.join(str(error).split())})") from None
    # What is of the whole recording, such as its frame rate, is no column.
    return {name: values for name, values in columns.items() if values.ndim and values.dtype.kind in "biuf"}


def _read_csv(path: Path) -> dict[str, np.ndarray]:
    try:
        rows = [row for row in csv.reader(path.read_text("utf-8-sig").splitlines()) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a csv ({' '.join(str(error).split())})") from None
    names = [word.strip() for word in rows.pop(0)] if rows and not _number(rows[0][0]) else []
    if not rows or len({len(row) for row in rows}) > 1 or (names and len(names) != len(rows[0])):
        raise UserError(
            f"{path}: not a table: its lines have different numbers of columns, or there are none"
        )
    try:
        table = np.array(rows, np.float64)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    actions = (
        [i for i, name in enumerate(names) if name.startswith("action")] if names else range(table.shape[1])
    )
    columns = {"action": table[:, actions]} if len(actions) else {}
    return columns | {name: table[:, i] for i, name in enumerate(names) if i not in actions}


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _frames(path: Path, image_size: int) -> np.ndarray:
    try:
        if path.is_dir():
            return np.stack([sized(picture(file), image_size) for file in _pictures(path)])
        return np.stack([sized(frame, image_size) for frame in video_frames(path)])
    except (OSError, ValueError, IndexError, RuntimeError, MemoryError) as error:
        raise UserError(f"{path}: can't be read ({' '.join(str(error).split())})") from None


def picture(file: Path | BytesIO, name: str = "") -> np.ndarray:
    """A picture's file as a frame, (H, W, 3) uint8.

    Args:
        name: what messages call it; by default the path.

    Raises:
        UserError: it can't be read.
    """
    try:
        with opened(file) as image:
            return np.asarray(image.convert("RGB"))
    except DAMAGED_PICTURE as error:
        reason = " ".join(str(error).partition("<")[0].split())
        raise UserError(f"{name or file}: can't be read ({reason})") from None


def video_frames(path: Path) -> Iterator[np.ndarray]:
    """Every frame that a video stores, (H, W, 3) uint8; none is dropped or doubled to keep a rate.

    Raises:
        OSError: it can't be decoded; the message is ffmpeg's.
    """
    words = [get_ffmpeg_exe(), "-v", "error", "-nostdin", "-i", str(path)]
    # Without a format ffmpeg would write two bytes a colour of a video that has more than 8 bits.
    words += ["-fps_mode", "passthrough", "-f", "image2pipe", "-c:v", "ppm", "-pix_fmt", "rgb24", "-"]
    with (
        tempfile.TemporaryFile() as told,
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=told) as process,
    ):
        assert process.stdout is not None
        # A frame is "P6", its width and height, 255, each with a line's end, and its bytes.
        while process.stdout.readline():
            width, height = map(int, process.stdout.readline().split())
            process.stdout.readline()
            yield np.frombuffer(process.stdout.read(3 * width * height), np.uint8).reshape(height, width, 3)
        failed = process.wait()
        told.seek(0)
        # Of frames that are damaged ffmpeg makes what it can, and only says so.
        if (errors := told.read()) or failed:
            raise OSError(errors.decode(errors="replace"))


def sized(frame: np.ndarray, size: int) -> np.ndarray:
    """A frame (H, W, 3) uint8, cut to its middle square and brought to this side; 0: as it is."""
    if not size:
        return np.ascontiguousarray(frame)
    height, width, _ = frame.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = Image.fromarray(np.ascontiguousarray(frame[top : top + side, left : left + side]))
    return np.asarray(
        square.resize((size, size), Image.Resampling.BOX if size <= side else Image.Resampling.BICUBIC)
    )


def _pictures(folder: Path) -> list[Path]:
    return sorted((p for p in folder.iterdir() if p.suffix.lower() in PICTURES), key=_by_number)


def _table_of(path: Path) -> Path:
    stem = path.parent / path.name.removesuffix(path.suffix) if path.is_file() else path
    options = [stem.with_name(stem.name + kind) for kind in (".npz", ".csv")]
    if path.is_dir():
        options += [path / "actions.npz", path / "actions.csv"]
    for option in options:
        if option.is_file():
            return option
    raise UserError(f"{path}: has no actions; they are looked for in {', '.join(map(str, options))}")


def _by_number(path: Path) -> list[tuple[int, str]]:
    """frame_2 before frame_10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name)]


def _told(shapes: dict[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in sorted(shapes.items()))

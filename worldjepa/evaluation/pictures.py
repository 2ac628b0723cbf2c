"""Frames put together: contact sheets, filmstrips, moving pictures."""

import errno
import io
from collections.abc import Sequence
from pathlib import Path

import imageio.v3 as imageio
import imageio_ffmpeg
import numpy as np
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import Summary

from ..files import whole

REACHED, MISSED = (60, 190, 90), (205, 70, 60)


def tile(rows: Sequence[Sequence[np.ndarray]] | np.ndarray, scale: int = 1, gap: int = 2) -> np.ndarray:
    """Rows of frames (H, W, 3) uint8, all of one size, to one sheet (H', W', 3), white between them."""
    padded = [
        np.concatenate(
            [np.pad(enlarge(f, scale), ((0, gap), (0, gap), (0, 0)), constant_values=255) for f in row], 1
        )
        for row in rows
    ]
    width = max(row.shape[1] for row in padded)
    return np.concatenate(
        [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in padded]
    )


def enlarge(frame: np.ndarray, scale: int) -> np.ndarray:
    """Every pixel (H, W, 3) becomes scale × scale pixels."""
    return frame.repeat(scale, 0).repeat(scale, 1)


def bordered(frame: np.ndarray, colour: tuple[int, int, int], thickness: int = 2) -> np.ndarray:
    """A copy of the frame with a border drawn into it."""
    frame = frame.copy()
    for edge in (np.s_[:thickness], np.s_[-thickness:], np.s_[:, :thickness], np.s_[:, -thickness:]):
        frame[edge] = colour
    return frame


def film(
    episodes: Sequence[Sequence[np.ndarray]],
    goals: np.ndarray,
    success: np.ndarray,
    scale: int,
    columns: int = 4,
) -> list[np.ndarray]:
    """Frames of a film that shows episodes side by side, each as start | now | goal.

    An episode that ended stays at its last frame, bordered green where it reached its goal, red where not.

    Args:
        episodes: of each, its frames (H, W, 3) uint8. goals: (E, H, W, 3). success: (E,).
        scale: enlargement. columns: episodes in a row.
    """
    longest = max(len(frames) for frames in episodes)
    pictures = []
    for t in range(longest + 10):
        cells = []
        for frames, goal, reached in zip(episodes, goals, success, strict=False):
            now = enlarge(frames[min(t, len(frames) - 1)], scale)
            if t >= len(frames) - 1:
                now = bordered(now, REACHED if reached else MISSED, scale + 1)
            cells.append(np.concatenate([enlarge(frames[0], scale), now, enlarge(goal, scale)], 1))
        cells += [np.full_like(cells[0], 255)] * (-len(cells) % min(columns, len(cells)))
        width = min(columns, len(cells))
        pictures.append(tile([cells[i : i + width] for i in range(0, len(cells), width)], gap=6))
    return pictures


def write_film(pictures: Sequence[np.ndarray], path: Path, fps: int) -> list[Path]:
    """`path` with .mp4 and .gif; the GIF shows every second picture."""
    even = [p[: p.shape[0] // 2 * 2, : p.shape[1] // 2 * 2] for p in pictures]
    mp4, gif = path.with_suffix(".mp4"), path.with_suffix(".gif")
    with whole(mp4) as temporary:
        _write_mp4(np.stack(even), temporary, fps)
    with whole(gif) as temporary:
        temporary.write_bytes(gif_bytes(even[::2], fps // 2))
    return [mp4, gif]


def _write_mp4(pictures: np.ndarray, path: Path, fps: int) -> None:
    """Raises OSError where not all of it can be written: ffmpeg may stop half-way and say nothing."""
    try:
        imageio.imwrite(path, pictures, fps=fps, codec="libx264", macro_block_size=2, plugin="FFMPEG")
        written, _ = imageio_ffmpeg.count_frames_and_secs(path)
    except (OSError, RuntimeError):
        written = 0
    if written < len(pictures):
        raise OSError(errno.EIO, "ffmpeg can't write all of it; is the disk full?")


def gif_bytes(pictures: Sequence[np.ndarray], fps: int) -> bytes:
    buffer = io.BytesIO()
    imageio.imwrite(buffer, np.stack(pictures), extension=".gif", duration=1000 / fps, loop=0)
    return buffer.getvalue()


def add_gif(writer: SummaryWriter, tag: str, gif: bytes, height: int, width: int, step: int) -> None:
    """A moving picture as an image summary, which TensorBoard plays; its add_video wants a lost moviepy."""
    image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=gif)
    writer._get_file_writer().add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step)

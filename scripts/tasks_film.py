"""The first planned episode of each task side by side, docs/planned_tasks.gif: what `scripts/sweep.py tasks`
filmed in runs/sweeps/tasks/TASK-jepa-seed0/evaluation/plan.gif.

    python scripts/tasks_film.py

No episode is chosen: they are the first held-out goals of each task, as start, now, goal.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from task_table import RECIPES

from worldjepa.evaluation.pictures import gif_bytes, tile
from worldjepa.files import whole

ROOT = Path(__file__).parents[1]
FILM = ROOT / "docs" / "planned_tasks.gif"
# Of the sweep's films: an episode's start, now and goal, and the gap between two episodes, in pixels.
WIDTH, HEIGHT, GAP = 384, 128, 6
TITLE = 22


def episodes(path: Path, count: int) -> np.ndarray:
    """The first episodes of a film, one under the other, (T, H, W, 3) uint8."""
    with Image.open(path) as film:
        frames = []
        for number in range(film.n_frames):  # type: ignore[attr-defined]
            film.seek(number)
            frames.append(np.asarray(film.convert("RGB")))
    columns = (slice(i * (WIDTH + GAP), i * (WIDTH + GAP) + WIDTH) for i in range(count))
    return np.concatenate([np.stack(frames)[:, :HEIGHT, column] for column in columns], 1)


def titled(picture: np.ndarray, title: str) -> np.ndarray:
    """With a line of text above."""
    canvas = Image.new("RGB", (picture.shape[1], picture.shape[0] + TITLE), "white")
    canvas.paste(Image.fromarray(picture), (0, TITLE))
    ImageDraw.Draw(canvas).text((2, 3), title, fill="black", font_size=15)
    return np.asarray(canvas)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/sweeps/tasks"), help="default: %(default)s")
    parser.add_argument("--episodes", type=int, default=1, help="of each task (default: %(default)s)")
    parser.add_argument("--columns", type=int, default=3, help="tasks in a row (default: %(default)s)")
    chosen = parser.parse_args()
    paths = {task: chosen.runs / f"{task}-jepa-seed0" / "evaluation" / "plan.gif" for task in RECIPES}
    films = {task: episodes(path, chosen.episodes) for task, path in paths.items() if path.exists()}
    if not films:
        parser.error(f"{chosen.runs}: holds no film; `python scripts/sweep.py tasks` makes them")
    longest = max(map(len, films.values()))
    pictures = []
    for t in range(longest):
        cells = [titled(film[min(t, len(film) - 1)], task) for task, film in films.items()]
        cells += [np.full_like(cells[0], 255)] * (-len(cells) % chosen.columns)
        rows = [cells[i : i + chosen.columns] for i in range(0, len(cells), chosen.columns)]
        pictures.append(tile(rows, gap=GAP))
    with whole(FILM) as temporary:
        temporary.write_bytes(gif_bytes(pictures, fps=10))
    print(f"{FILM}: {', '.join(films)}")


if __name__ == "__main__":
    main()

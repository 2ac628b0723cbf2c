"""`worldjepa data info | show | merge | split | convert | verify`: look at data, change their form."""

import contextlib
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
from tqdm import tqdm

from ..config import Config
from ..data.environments import as_described, make_env
from ..data.lerobot import INFO, LeRobot
from ..data.paths import only
from ..data.provenance import made_here
from ..data.recordings import read_recordings, recordings
from ..data.rewrite import (
    Episode,
    common_columns,
    episodes_of,
    fill,
    joint_origin,
    new_paths,
    refuse_existing,
    write_file,
    write_shards,
)
from ..data.shards import Store
from ..data.summary import Coordinates, summary
from ..data.verify import verify
from ..data.windows import split_episodes
from ..errors import UserError
from ..evaluation.dataset_pictures import contact_sheet, coverage_figure, film_frames
from ..evaluation.pictures import gif_bytes
from ..files import whole


def run(config: Config, part: str) -> int:
    only(config.data.path)
    return PARTS[part](config)


def info(config: Config) -> int:
    store = Store(config.data.path)
    results = summary(store, _coordinates(config, store))
    print(_told(results))
    with _pictures_written():
        print(coverage_figure(results, _picture(config, "coverage.png")))
    return 0


def show(config: Config) -> int:
    store = Store(config.data.path)
    count = min(config.store.episodes, len(store.lengths))
    episodes = np.linspace(0, len(store.lengths) - 1, count).round().astype(int)
    sheet, film = _picture(config, "episodes.png"), _picture(config, "episodes.gif")
    for path, content in (
        (sheet, imageio.imwrite("<bytes>", contact_sheet(store, episodes), extension=".png")),
        (film, gif_bytes(film_frames(store, episodes)[::2], fps=10)),
    ):
        with _pictures_written(), whole(path) as temporary:
            temporary.write_bytes(content)
        print(path)
    return 0


def merge(config: Config) -> int:
    stores = [Store(path) for path in [config.data.path, *_words(config.store.also)]]
    columns = common_columns(stores)
    every = {name for store in stores for shard in store.shards for name in shard.columns}
    left_out = sorted(every - set(columns) - {"step_idx"})
    total = sum(len(store.lengths) for store in stores)
    episodes = (e for store in stores for e in episodes_of(store, range(len(store.lengths)), columns))
    origin = joint_origin(stores)
    target = _target(config)
    with _progress(episodes, total) as shown:
        if target.suffix == ".h5":
            rows = sum(int(store.lengths.sum()) for store in stores)
            write_file(target, shown, origin, rows, config.store.compression)
        else:
            write_shards(target, shown, origin, config.collect.shard_episodes, config.store.compression)
    print(_done(target) + (f"; left out: {', '.join(left_out)}, not alike in every file" if left_out else ""))
    return 0


def split(config: Config) -> int:
    store, target, share = Store(config.data.path), _target(config), config.store.share
    if target.suffix == ".h5":
        raise UserError(
            f"store.to={target}: split writes folders of shards; `worldjepa data merge` writes a file"
        )
    parts = {target: np.arange(len(store.lengths))}
    if share < 1:
        most, others = split_episodes(len(store.lengths), 1 - share, config.data.split_seed)
        parts = {target: most, target.with_name(f"{target.name}-rest"): others}
    columns, origin = common_columns([store]), joint_origin([store])
    with new_paths(*parts) as folders:
        for folder, which in zip(folders, parts.values(), strict=True):
            with _progress(episodes_of(store, which, columns), len(which)) as episodes:
                fill(folder, episodes, origin, config.collect.shard_episodes, config.store.compression)
    for path in parts:
        print(_done(path))
    return 0


def convert(config: Config) -> int:
    source, target = Path(config.data.path), _target(config)
    size = {"image_size": config.store.image_size}
    episodes: Iterable[Episode]
    if (source / INFO).is_file():
        data = LeRobot(source, config.store.camera)
        episodes, total = data.read(**size), len(data.episodes)
        origin = made_here({"lerobot": data.about | size})
    elif source.is_dir() and not list(source.glob("shard-*.h5")):
        found = recordings(source)
        episodes = read_recordings(found, **size)
        total, origin = len(found), made_here({"recordings": {"folder": source.name} | size})
    else:
        store = Store(source)
        episodes = episodes_of(store, range(len(store.lengths)), common_columns([store]))
        total, origin = len(store.lengths), joint_origin([store])
    if not total:
        raise UserError(f"{source}: holds no episode")
    with _progress(episodes, total) as shown:
        if target.suffix == ".h5":
            write_file(target, shown, None, None, config.store.compression)
        else:
            write_shards(target, shown, origin, config.collect.shard_episodes, config.store.compression)
    print(_done(target))
    return 0


def check(config: Config) -> int:
    findings = verify(Path(config.data.path))
    for finding in findings:
        for line in finding.problems:
            print(f"{finding.path}: {line}")
    wrong = sum(bool(finding.problems) for finding in findings)
    notes: dict[str, int] = {}
    for note in (note for finding in findings for note in finding.notes):
        notes[note] = notes.get(note, 0) + 1
    for note, count in notes.items():
        print(f"{config.data.path}: {note}" + (f" ({count} files)" if count > 1 else ""))
    episodes, frames = (sum(getattr(f, n) for f in findings) for n in ("episodes", "frames"))
    state = f"{wrong} not as they should be" if wrong else "all as they should be"
    print(f"{config.data.path}: {len(findings)} files, {episodes} episodes, {frames} frames: {state}")
    return 1 if wrong else 0


PARTS = {"info": info, "show": show, "merge": merge, "split": split, "convert": convert, "verify": check}


def _told(results: dict[str, Any]) -> str:
    """The text of `info`."""
    lengths, action = results["lengths"], results["action"]
    same = lengths["min"] == lengths["max"]
    frames = (
        f"{lengths['min']}" if same else f"{lengths['min']} to {lengths['max']}, mean {lengths['mean']:.0f}"
    )
    rows = [
        ("data", f"{results['path']}: {results['files']} files, {results['bytes'] / 1e6:,.0f} MB"),
        ("episodes", f"{results['episodes']:,} of {frames} frames, {results['frames']:,} frames in all"),
        ("image", " × ".join(map(str, results["image"]))),
    ]
    for name in ("mean", "std", "min", "max"):
        rows.append((f"action {name}", " ".join(f"{value:.3f}" for value in action[name])))
    for name, column in results["columns"].items():
        shape = " × ".join(map(str, column["shape"])) or "1"
        bad = f", {column['not_finite']} rows not finite" if column["not_finite"] else ""
        rows.append((f"column {name}", f"{shape}, {column['dtype']}{bad}"))
    if results["left_out"]:
        rows.append(("not in all", ", ".join(results["left_out"])))
    rows += [
        (f"{group}.{name}", str(value))
        for group, values in (results["about"] or {}).items()
        for name, value in (values.items() if isinstance(values, dict) else [("", values)])
    ]
    versions = results["versions"] or {}
    rows.append(("made with", ", ".join(f"{name} {value}" for name, value in versions.items()) or "not said"))
    rows.append(("checksums", f"in {results['checksums']} of {results['files']} files"))
    filled = ", ".join(f"{name} {100 * row['filled']:.0f} %" for name, row in results["coverage"].items())
    rows.append(("filled", filled))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def _coordinates(config: Config, store: Store) -> Coordinates | None:
    """Names of what qpos holds, from the environment that the data come from, where it can be made: one of
    ours, or the one that env.id names. Data name no other module that is then imported."""
    known = (store.about or {}).get("env", {})
    if not str(known.get("id")).startswith("worldjepa.envs:") and known.get("id") != config.env.id:
        return None
    with contextlib.suppress(UserError, RuntimeError, TypeError, ValueError, AttributeError):
        # The names do not depend on how large it draws.
        env = make_env(as_described(known | {"image_size": config.env.image_size})).unwrapped
        if hasattr(env, "coordinates"):
            return env.coordinates
    return None


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _target(config: Config) -> Path:
    if not config.store.to:
        raise UserError("store.to: say what to write, as in store.to=data/mine.h5 or store.to=data/mine")
    target = Path(config.store.to)
    refuse_existing(target)
    return target


def _picture(config: Config, name: str) -> Path:
    """Where a picture goes: into store.to, or to the data."""
    source = Path(config.data.path)
    if config.store.to:
        folder = Path(config.store.to)
        folder.mkdir(parents=True, exist_ok=True)
        return folder / name
    return source / name if source.is_dir() else source.with_name(f"{source.stem}-{name}")


@contextlib.contextmanager
def _pictures_written() -> Iterator[None]:
    """Data may lie where nobody may write."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{error.filename}: can't be written: {error.strerror}; store.to=FOLDER puts pictures elsewhere"
        ) from None


@contextlib.contextmanager
def _progress(episodes: Iterable[Episode], total: int) -> Iterator[Iterator[Episode]]:
    """The same episodes behind a bar, which is gone before an error is told."""

    def counted() -> Generator[Episode, None, None]:
        with tqdm(total=total, unit=" episodes", desc="write") as bar:
            for episode in episodes:
                yield episode
                bar.update()

    with contextlib.closing(counted()) as shown:
        yield shown


def _done(target: Path) -> str:
    store = Store(target)
    return f"{target}: {len(store.lengths)} episodes, {int(store.lengths.sum())} frames"

"""`worldjepa collect`: pixel rollouts into the data folder; goes on where it was."""

from pathlib import Path

from ..config import Config
from ..data.collect import collect


def run(config: Config) -> int:
    new, frames = collect(Path(config.data.path), config.env, config.collect)
    done = f"{new} new" if new else "nothing was missing"
    print(f"{config.data.path}: {config.collect.episodes} episodes, {frames} frames ({done})")
    return 0

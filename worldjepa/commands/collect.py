"""`worldjepa collect`: pixel rollouts into the data folder; goes on where it was."""

from pathlib import Path

from ..config import Config
from ..data.collect import collect


def run(config: Config) -> int:
    options = config.collect
    new, frames = collect(Path(config.data.path), config.env, options, config.store.compression)
    done = f"{new} new" if new else "nothing was missing"
    which = "" if options.shard == "1/1" else f"part {options.shard} of "
    print(f"{config.data.path}: {which}{options.episodes} episodes, {frames} frames ({done})")
    return 0

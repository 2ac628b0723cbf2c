"""`worldjepa collect`: pixel rollouts into the data folder; goes on where it was."""

import dataclasses
import os
from pathlib import Path

from ..config import CollectConfig, Config
from ..data.collect import collect
from ..data.paths import only
from ..notation import part


def run(config: Config) -> int:
    options, folder = share(config.collect), Path(only(config.data.path))
    new, frames = collect(folder, config.env, options, config.store.compression)
    done = f"{new} new" if new else "nothing was missing"
    which = "" if options.shard == "1/1" else f"part {options.shard} of "
    print(f"{folder}: {which}{options.episodes} episodes, {frames} frames ({done})")
    return 0


def share(options: CollectConfig) -> CollectConfig:
    """Under torchrun, this process's share of what is asked for, and one worker: it is one of many."""
    ranks, number = (int(os.environ.get(name, alone)) for name, alone in (("WORLD_SIZE", "1"), ("RANK", "0")))
    if ranks == 1:
        return options
    k, n = part(options.shard)
    return dataclasses.replace(options, shard=f"{k + n * number}/{n * ranks}", workers=options.workers or 1)

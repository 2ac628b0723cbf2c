"""`worldjepa collect`: pixel rollouts into the data folder; goes on where it was."""

import dataclasses
from pathlib import Path

from ..config import CollectConfig, Config
from ..data.behaviours import parts
from ..data.collect import collect
from ..data.paths import only
from ..errors import UserError
from ..launch import launched
from ..limits import check_lengths
from ..notation import PLANNER, part, paths


def run(config: Config) -> int:
    folder = Path(only(config.data.path))
    check_lengths(config)
    options = share(planning(config.collect))
    new, frames = collect(folder, config.env, options, config.store.compression)
    done = f"{new} new" if new else "nothing was missing"
    which = "" if options.shard == "1/1" else f"part {options.shard} of "
    print(f"{folder}: {which}{options.episodes} episodes, {frames} frames ({done})")
    return 0


def planning(options: CollectConfig) -> CollectConfig:
    """With the newest checkpoint of the run that plans, and the data of its goals: which these are the data
    say, so that a collection goes on with no other.

    Raises:
        UserError: the run has no checkpoint, or was trained on several data sets and none is named.
    """
    if PLANNER not in dict(parts(options.behaviour)):
        return options
    # What imports torch is only waited for where it is needed.
    from ..run import Run

    target = Run(options.run)
    goals = paths(options.goals or target.config.data.path)
    if len(goals) > 1:
        raise UserError(
            f"collect.goals: {target.path} was trained on {len(goals)} data sets; name the one whose frames "
            f"are goals, as in collect.goals={goals[0]}"
        )
    return dataclasses.replace(options, run=str(target.newest_checkpoint()), goals=goals[0])


def share(options: CollectConfig) -> CollectConfig:
    """Under torchrun, this process's share of what is asked for, and one worker: it is one of many."""
    ranks, number = launched("WORLD_SIZE", 1), launched("RANK", 0)
    if ranks == 1:
        return options
    k, n = part(options.shard)
    return dataclasses.replace(options, shard=f"{k + n * number}/{n * ranks}", workers=options.workers or 1)

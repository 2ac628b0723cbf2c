"""`worldjepa train`: pretrain a world model on collected rollouts; goes on where it was."""

import sys
from typing import Any

import gymnasium
import torch

from ..config import Config
from ..data.environments import make_env
from ..data.shards import Store
from ..data.windows import Windows, split_episodes
from ..errors import UserError
from ..evaluation.goals import require_goals, why_no_goals
from ..evaluation.watch import callbacks
from ..run import Run
from ..trainer import choose_device, train
from ..world_model import WorldModel


def run(config: Config) -> int:
    store = open_store(config)
    training, held_out = split_episodes(len(store.lengths), config.data.held_out, config.data.split_seed)
    windows = Windows(store, training, config.data.context + 1, config.data.frameskip)
    torch.manual_seed(config.train.seed)
    model = WorldModel(config, store.action_dim)
    model.set_action_statistics(*windows.action_statistics())
    env = _watched_env(config, store)

    # Named before the run folder is made, if it is wrong.
    choose_device(config.train)
    target = Run.create_or_open(config)
    size = f"{parameters(model)} parameters, {len(windows)} windows"
    print(f"{target.path}: {size}; `worldjepa monitor` shows the run")
    try:
        ended = train(model, windows, config.train, target, callbacks(target, config, env, store, held_out))
    finally:
        target.close()
    step = int(target.checkpoints()[-1].name)
    if not ended:
        print(f"{target.path}: stopped at step {step}; the same command goes on from there")
        return 130
    print(f"{target.path}: trained, {step} steps")
    return 0


def open_store(config: Config) -> Store:
    """The data, with frames of the size that the configuration says."""
    store = Store(config.data.path)
    size = (config.env.image_size, config.env.image_size, 3)
    if store.image_shape != size:
        height, width, _ = store.image_shape
        raise UserError(
            f"{store.path}: frames are {height} × {width}, env.image_size={config.env.image_size}"
        )
    return store


def data_env(config: Config, store: Store) -> gymnasium.Env:
    """The environment that the data come from; its actions must be the data's."""
    env = make_env(config.env)
    shape = env.action_space.shape
    if shape != (store.action_dim,):
        raise UserError(
            f"env.id={config.env.id}: an action has {shape[0] if shape else 0} numbers, "
            f"in {store.path} it has {store.action_dim}"
        )
    return env


def goal_env(config: Config, store: Store) -> Any:
    """The same with goals."""
    return require_goals(data_env(config, store))


def _watched_env(config: Config, store: Store) -> Any | None:
    """Where goals are tried while a model trains; None where that is not asked for, or can't be."""
    if not config.train.evaluate_goals:
        return None
    env = data_env(config, store)
    reason = why_no_goals(env) or ("" if store.has("state") else f"{store.path} has no column state")
    if not reason:
        return require_goals(env)
    print(f"no goals are tried while it trains: {reason}", file=sys.stderr)
    env.close()
    return None


def parameters(model: torch.nn.Module) -> str:
    """How many, for people: "1.59M"."""
    return f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f}M"

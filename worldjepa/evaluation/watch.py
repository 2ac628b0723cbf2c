"""What is watched while a world model trains, as callbacks: collapse, imagination, goals reached."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from ..config import Config
from ..data.mixture import together
from ..data.shards import Store
from ..data.windows import Windows
from ..run import Run
from ..trainer import Callback
from ..world_model import WorldModel
from .dashboard import set_up, show_slices, watch_verdict
from .geometry import rank_me, spread, straightness
from .goals import sample_goals, summary
from .goals_over_ranks import play_over_ranks
from .pictures import tile
from .planner import latent_planner


def watch_latents(run: Run, batch: dict[str, Tensor], context: int) -> Callable[[WorldModel, int], None]:
    """Rank, spread, slices and straightness of held-out latents, SIGReg's floor, and the rollout's error at
    each horizon.

    Args:
        batch: held-out windows of `context` + H frames.
        context: frames that the rollout sees. The error is the mean squared difference to the true latent,
            and, as `rollout_gain`, one minus its ratio to the error of predicting that nothing moves: 1 is
            perfect, 0 useless.
    """

    def callback(model: WorldModel, step: int) -> None:
        device = next(model.parameters()).device
        z = model.encode(batch["pixels"].to(device)).float()
        actions = batch["action"].to(device)
        flat = z.flatten(0, 1)
        smallest, mean = spread(flat)
        scalars = {"latent/rank": rank_me(flat), "latent/std_min": smallest, "latent/std_mean": mean}
        if z.shape[1] > 2:
            scalars["latent/straightness"] = straightness(z)
        show_slices(run, flat, step)
        scalars["train/sigreg_floor"] = model.sigreg.floor
        imagined = model.rollout(z[:, :context], actions[:, : context - 1], actions[:, context - 1 :]).float()
        future, present = z[:, context:], z[:, context - 1 : context]
        error = (imagined - future).square().mean((0, 2))
        still = (present - future).square().mean((0, 2))
        for horizon, (value, gain) in enumerate(zip(error, 1 - error / still, strict=True), 1):
            scalars[f"eval/rollout_error_{horizon}"] = float(value)
            scalars[f"eval/rollout_gain_{horizon}"] = float(gain)
        run.log(step, scalars)

    return callback


def watch_goals(
    run: Run, config: Config, env: Any, store: Store, episodes: np.ndarray
) -> Callable[[WorldModel, int], None]:
    """Share of a few held-out goals that the planner reaches, and their pictures."""
    plan = config.plan
    count, option = config.train.evaluate_goals, "train.evaluate_goals"
    goals = sample_goals(
        store, episodes, env, count, plan.goal_offset, plan.seed, option, tolerance=plan.tolerance
    )

    def callback(model: WorldModel, step: int) -> None:
        agent = latent_planner(config, store, model, env.action_space)
        label = f"goals at step {step}"
        rules = {"tolerance": plan.tolerance, "hold": plan.hold}
        outcome = play_over_ranks(env, goals, agent, plan.budget, 8, label, **rules)
        row = summary(outcome)
        run.log(step, {"eval/success": row["success"], "eval/median_final_error": row["median_final_error"]})
        rows = [
            [frames[0], goal, frames[-1]]
            for frames, goal in zip(outcome.frames, outcome.goal_frames, strict=False)
        ]
        run.writer.add_image("eval/start_goal_end", tile(rows), step, dataformats="HWC")

    return callback


def callbacks(
    run: Run,
    config: Config,
    env: Any | None,
    store: Store,
    episodes: np.ndarray,
    others: Sequence[tuple[Store, np.ndarray]] = (),
) -> list[Callback]:
    """All of the above on held-out `episodes`, latents also on those of `others`; goals only where an
    environment that takes them is given."""
    frames = config.data.context + config.plan.horizon
    span = (frames - 1) * config.data.frameskip
    result: list[Callback] = []
    set_up(run, config)
    sets = [(store, episodes), *others]
    long = [Windows(s, e, frames, config.data.frameskip) for s, e in sets if (s.lengths[e] > span).any()]
    if long:
        windows = together(long, max(s.action_dim for s, _ in sets))
        chosen = np.sort(np.random.default_rng(0).permutation(len(windows))[:128])
        batch = windows.batch(chosen)
        result.append((config.train.evaluate_every, watch_latents(run, batch, config.data.context)))
        run.writer.add_image("data/frames", tile(batch["pixels"][:8].numpy()), 0, dataformats="HWC")
    if env is not None and config.train.evaluate_goals:
        result.append((config.train.evaluate_every, watch_goals(run, config, env, store, episodes)))
    result.append((config.train.evaluate_every, watch_verdict(run)))
    return result

"""How fast plans are scored: each token computed once, against a window recomputed at every step.

    python scripts/benchmark_planning.py            # 2 threads, the CPU recipe's predictor, random weights

Both sides score the same candidates with the same weights from the same three latents, 5 action blocks ahead:
ours (`Predictor.rollout`: keys and values kept, what was seen computed once for all candidates, what actions
alone decide in one product), in float32 and in bfloat16, in which `plan` runs where the hardware gains; and
the usual loop, which repeats what was seen for every candidate and runs the predictor on the last three
latents at every step. Times are the least of several runs. At the end stands one robot's decision, pixels to
action, with the recipe's solver.
"""

import argparse
import copy
import functools
import time
from collections.abc import Callable

import gymnasium
import numpy as np
import torch
from torch import Tensor

from worldjepa.config import Config
from worldjepa.planning.agent import build_agent
from worldjepa.planning.costs import COSTS
from worldjepa.planning.dynamics import LatentDynamics
from worldjepa.world_model import WorldModel


def recomputed(model: WorldModel, z: Tensor, past: Tensor, plans: Tensor) -> Tensor:
    """(E, S, H, D): the last C latents of every candidate through the predictor, H times."""
    samples, horizon = plans.shape[1:3]
    z, past = (x.repeat_interleave(samples, 0) for x in (z, past))
    blocks = torch.cat([past, plans.flatten(0, 1)], 1)
    seen = z.shape[1]
    for last in range(seen, seen + horizon):
        window = slice(max(0, last - model.context), last)
        z = torch.cat([z, model.predict(z[:, window], blocks[:, window])[:, -1:]], 1)
    return z[:, seen:].unflatten(0, (-1, samples))


def milliseconds(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """The least time of each call; in turn, so that what else the machine does meets all of them."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats + 1):
        for name, call in calls.items():
            first = time.perf_counter()
            call()
            times[name].append(1e3 * (time.perf_counter() - first))
    return {name: min(values[1:]) for name, values in times.items()}


@torch.inference_mode()
def compare(model: WorldModel, episodes: int, samples: int, repeats: int) -> None:
    """Print one row."""
    context, horizon = model.context, Config().plan.horizon
    width = model.frameskip * model.action_dim
    z, past = torch.randn(episodes, context, model.latent), torch.randn(episodes, context - 1, width)
    plans = torch.randn(episodes, samples, horizon, width)
    rounded = copy.deepcopy(model)
    rounded.predictor.bfloat16()
    times = milliseconds(
        {
            "recomputed": functools.partial(recomputed, model, z, past, plans),
            "ours": functools.partial(model.rollout, z, past, plans),
            "bfloat16": functools.partial(rounded.rollout, z, past, plans),
        },
        repeats,
    )
    base = times["recomputed"]
    row = f"{episodes:>8} {samples:>10}" + "".join(f"{value:>12.1f}" for value in times.values())
    print(row + f"{base / times['ours']:>10.1f}×{base / times['bfloat16']:>11.1f}×", flush=True)


def decision(model: WorldModel, repeats: int) -> float:
    """Milliseconds for one robot's decision, pixels to action, with the recipe's solver."""
    config, device = Config(), torch.device("cpu")
    size, bound = config.env.image_size, np.ones(model.action_dim, np.float32)
    space = gymnasium.spaces.Box(-bound, bound)
    dynamics = LatentDynamics(model, COSTS[config.plan.cost], device)
    agent = build_agent(config.plan, model.frameskip, space, dynamics, device)
    frames = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)
    agent.reset(frames)
    return milliseconds({"act": lambda: agent.act(frames)}, repeats)["act"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    model = WorldModel(Config(), action_dim=2).eval()
    print(f"one scoring of all candidates in ms, {options.threads} threads, torch {torch.__version__}")
    print("episodes candidates  recomputed        ours    bfloat16       ours    bfloat16")
    for episodes, samples in ((1, 64), (1, 300), (50, 64), (200, 64)):
        compare(model, episodes, samples, options.repeats)
    plan = Config().plan
    setting = f"{plan.num_samples} candidates, {plan.iterations} iterations"
    print(f"one robot's decision, {setting}: {decision(model, options.repeats):.1f} ms")


if __name__ == "__main__":
    main()

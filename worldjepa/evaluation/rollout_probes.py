"""How long an imagined latent still knows the state: probes at each depth of a rollout."""

from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from ..config import ProbeConfig
from ..data.windows import Windows
from ..world_model import WorldModel
from .probe_scores import score_values
from .probes import targets
from .regressors import Reader, Settings, fit_ridge

# Rollouts of training and of held-out episodes, at most.
TRAIN, TEST = 4000, 1000


class Rollouts(NamedTuple):
    """Latents (n, C+H, D) of frames: the C frames that were seen, then those imagined. `true`: all of them
    encoded, where they were asked for, else None. indices: of the windows."""

    windows: Windows
    indices: np.ndarray
    imagined: np.ndarray
    true: np.ndarray | None


def deepest(lengths: list[int], context: int, frameskip: int, horizon: int) -> int:
    """H, of the horizon asked for what episodes of these lengths, the longest of each side, hold; maybe 0."""
    return max(0, min(horizon, *((length - 1) // frameskip + 1 - context for length in lengths)))


@torch.inference_mode()
def roll_out(model: WorldModel, windows: Windows, indices: np.ndarray, encode_all: bool) -> Rollouts:
    """Latents that the model imagines after the first `context` frames of windows, by the data's actions."""
    device, context = next(model.parameters()).device, model.context
    imagined, true = [], []
    for part in tqdm(np.array_split(indices, -(-len(indices) // 64)), desc="imagine", leave=False):
        batch = windows.batch(part)
        frames = batch["pixels"] if encode_all else batch["pixels"][:, :context]
        z, actions = model.encode(frames.to(device)).float(), batch["action"].to(device)
        seen = z[:, :context]
        ahead = model.rollout(seen, actions[:, : context - 1], actions[:, context - 1 :])
        imagined.append(torch.cat([seen, ahead.float()], 1).cpu().numpy())
        true.append(z.cpu().numpy())
    return Rollouts(windows, indices, np.concatenate(imagined), np.concatenate(true) if encode_all else None)


def probe_rollouts(
    model: WorldModel,
    env: Any,
    train: Windows,
    test: Windows,
    readers: dict[tuple[str, str], Reader],
    options: ProbeConfig,
) -> dict[str, Any]:
    """What is read from imagined latents at each depth, on held-out episodes.

    Args:
        train, test: windows of C + H frames.
        readers: probes that were fitted on latents of frames, by what they read, "coordinates" or
            "velocities" (from the last C latents, seen or imagined), and kind.

    Returns:
        {task: {curve: [row of `probe_scores.score_values`'s mean, of depth 0 to H]}}; depth 0 is the last
        frame seen. The curves, by kind of probe: "imagined", the readers on imagined latents; "seen", on
        those of the frames themselves; "still", on the last one seen, as if nothing moved. And "ridge,
        refitted": on imagined latents of training episodes at that depth, which finds what is there in
        another form.
    """
    rng = np.random.default_rng(options.seed)
    fitted_on, judged_on = (
        roll_out(model, windows, np.sort(rng.permutation(len(windows))[:count]), encode_all)
        for windows, count, encode_all in ((train, TRAIN, False), (test, TEST, True))
    )
    tasks = [task for task in ("coordinates", "velocities") if (task, "ridge") in readers]
    curves: dict[str, dict[str, list[Any]]] = {task: {} for task in tasks}
    for depth in range(test.frames - model.context + 1):
        last = model.context - 1 + depth
        for task in tasks:
            rows = _at_depth(model.context, env, fitted_on, judged_on, readers, options, task, last)
            for name, row in rows.items():
                curves[task].setdefault(name, []).append(row)
    return curves


def _at_depth(
    context: int,
    env: Any,
    train: Rollouts,
    test: Rollouts,
    readers: dict[tuple[str, str], Reader],
    options: ProbeConfig,
    task: str,
    last: int,
) -> dict[str, Any]:
    """By curve, how well the state of frame `last` is read."""
    frames = 1 if task == "coordinates" else context

    def features(z: np.ndarray, end: int) -> np.ndarray:
        return z[:, end + 1 - frames : end + 1].reshape(len(z), -1)

    def values(side: Rollouts) -> np.ndarray:
        shown = targets(env, side.windows, side.indices, last)[task == "velocities"]
        return np.stack(list(shown.values()), 1)

    assert test.true is not None
    wanted, episodes = values(test), test.windows.episodes[test.indices]
    refitted = fit_ridge(features(train.imagined, last), values(train), Settings(options.ridge, 1, 0))
    predicted = {"ridge, refitted": refitted(features(test.imagined, last))}
    for kind in ("ridge", "mlp"):
        read = readers[task, kind]
        predicted[f"{kind}, imagined"] = read(features(test.imagined, last))
        predicted[f"{kind}, seen"] = read(features(test.true, last))
        predicted[f"{kind}, still"] = read(features(test.imagined, context - 1))
    return {name: score_values(wanted, y[None], episodes)[1] for name, y in predicted.items()}

"""`worldjepa probe`: what a linear map reads from the frozen latents of a trained model."""

import dataclasses
from typing import Any

import numpy as np
import torch

from ..config import Config
from ..data.windows import Windows, split_episodes
from ..evaluation.figures import probe_figure, probe_table
from ..evaluation.geometry import rank_me, spread
from ..evaluation.probes import embed, probe
from ..run import Run
from ..trainer import choose_device
from ..world_model import WorldModel
from .train import data_env, open_store


def run(config: Config) -> int:
    target = Run(config.run)
    device = choose_device(config.train)
    model = target.load_model(device)
    step = int(target.checkpoints()[-1].name)
    about = {"options": dataclasses.asdict(config.probe), "checkpoint": step}
    results = target.result("probe", about)
    if results is None:
        results = {**about, **_evaluate(config, model)}
        target.write_json("probe", results)
        for kind, value in results["mean_r2"].items():
            target.writer.add_scalar(f"probe/{kind}_r2", value, step)
        target.close()
    figure = probe_figure(target.evaluation / "probe.json")
    print(probe_table(results))
    print(target.evaluation / "probe.json", figure, sep="\n")
    return 0


def _evaluate(config: Config, model: WorldModel) -> dict[str, Any]:
    store, options = open_store(config), config.probe
    training, held_out = split_episodes(len(store.lengths), config.data.held_out, config.data.split_seed)
    train, test = (
        Windows(store, episodes, config.data.context, config.data.frameskip)
        for episodes in (training, held_out)
    )
    env = data_env(config, store).unwrapped
    results: dict[str, Any] = probe(
        model, env, train, test, options.train_frames, options.test_frames, options.ridge, options.seed
    )
    results["mean_r2"] = {
        kind: float(np.mean([row["r2"] for row in rows.values()])) for kind, rows in results.items() if rows
    }
    indices = np.sort(np.random.default_rng(options.seed).permutation(len(test))[: options.test_frames])
    z = torch.from_numpy(embed(model, test, indices, "rank")[:, -1])
    smallest, mean = spread(z)
    return {**results, "rank": rank_me(z), "std_min": smallest, "std_mean": mean, "latent": model.latent}

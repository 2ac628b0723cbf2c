"""`worldjepa probe`: what a linear map reads from the frozen latents, or features, of a trained model."""

import dataclasses
from typing import Any

import numpy as np
import torch

from ..config import Config
from ..data.windows import Windows, split_episodes
from ..evaluation.figures import probe_figure, probe_table
from ..evaluation.fine_tuning import fine_tuned_accuracy
from ..evaluation.geometry import rank_me, spread
from ..evaluation.image_figures import image_probe_figures, image_probe_table
from ..evaluation.image_maps import image_arrays
from ..evaluation.image_probes import probe_images, read_features, untrained
from ..evaluation.probes import embed, probe
from ..notation import counts
from ..run import Run
from ..trainer import choose_device, choose_precision
from .train import data_env, open_images, open_store


def run(config: Config) -> int:
    target = Run(config.run, config.checkpoint)
    device = choose_device(config.train)
    images = target.config.mode == "images"
    about = {"options": dataclasses.asdict(config.probe), "checkpoint": target.chosen_step()}
    results = target.result("probe", about)
    if results is None:
        evaluate = _evaluate_images if images else _evaluate
        results = {**about, **evaluate(config, target, device)}
        target.write_json("probe", results)
        for name, value in (_image_scalars if images else _scalars)(results).items():
            target.writer.add_scalar(f"probe/{name}", value, about["checkpoint"])
        target.close()
    path = target.evaluation / "probe.json"
    print(image_probe_table(results) if images else probe_table(results))
    print(path, *(image_probe_figures(path) if images else [probe_figure(path)]), sep="\n")
    return 0


def _scalars(results: dict[str, Any]) -> dict[str, float]:
    return {f"{kind}_r2": value for kind, value in results["mean_r2"].items()}


def _image_scalars(results: dict[str, Any]) -> dict[str, float]:
    return {f"test_{kind}": results["rows"]["trained"][kind] for kind in ("linear", "knn")}


def _evaluate_images(config: Config, target: Run, device: torch.device) -> dict[str, Any]:
    train, test = open_images(config)
    options, model = config.probe, target.load_image_model(device)
    models = {"trained": model, "untrained": untrained(target.config, train, device)}
    features = read_features(models, train, test, options.train_frames, options.test_frames, options.seed)
    results = probe_images(features, counts(options.shots), options.draws, options.ridge, options.seed)
    if options.fine_tune_epochs:
        precision = choose_precision(config.train, device)
        numbers = options.fine_tune_epochs, options.fine_tune_rate, precision, options.seed
        for name, start in models.items():
            accuracy = fine_tuned_accuracy(start, train, test, target.config.images, *numbers)
            results["rows"][name]["fine_tuned"] = accuracy
    x_train, x_test = features.rows["trained"]
    numbers_of = features.train_numbers, features.test_numbers
    arrays = image_arrays(train, test, *numbers_of, x_train, x_test, options.map, options.seed)
    target.evaluation.mkdir(exist_ok=True)
    np.savez_compressed(target.evaluation / "probe.npz", **arrays)  # type: ignore[arg-type]
    return {"data": train.source, "classes": train.class_names, **results}


def _evaluate(config: Config, target: Run, device: torch.device) -> dict[str, Any]:
    model, store, options = target.load_world_model(device), open_store(config), config.probe
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

"""`worldjepa probe`: what is read from the frozen latents, or features, of a trained model."""

from typing import Any

import numpy as np
import torch

from ..config import Config
from ..data.windows import Windows, split_episodes
from ..evaluation.damage import told_from
from ..evaluation.fine_tuning import fine_tuned_accuracy
from ..evaluation.geometry import rank_me, spread
from ..evaluation.image_figures import image_probe_figures, image_probe_table
from ..evaluation.image_maps import image_arrays
from ..evaluation.image_probes import probe_images, read_features, untrained
from ..evaluation.probe_figures import probe_figures, probe_table
from ..evaluation.probe_sources import encoders
from ..evaluation.rollout_probes import deepest, probe_rollouts
from ..evaluation.state_probes import draw, probe_states
from ..files import write_arrays
from ..notation import counts
from ..run import Run
from ..trainer import choose_device, choose_precision
from .train import data_env, open_images, open_store, require_actions


def run(config: Config) -> int:
    target = Run(config.run, config.checkpoint, config.data.path)
    device = choose_device(config.train)
    images = target.config.mode == "images"
    about = target.about(config, config.probe)
    results = target.result("probe", about)
    if results is None:
        evaluate = _evaluate_images if images else _evaluate
        results = {**about, **evaluate(config, target, device)}
        target.write_json("probe", results)
        for name, value in (_image_scalars if images else _scalars)(results).items():
            target.writer.add_scalar(f"probe/{name}", value, about["checkpoint"])
        target.close()
    path = target.evaluation / "probe.json"
    with told_from(path):
        print(image_probe_table(results) if images else probe_table(results))
        print(path, *(image_probe_figures(path) if images else probe_figures(path)), sep="\n")
    return 0


def _scalars(results: dict[str, Any]) -> dict[str, float]:
    scalars = {f"{task}_r2": value for task, value in results["mean_r2"].items()}
    for task, kinds in results["means"]["latent"].items():
        scalars |= {f"{task}_{kind}_r2": row["r2"] for kind, row in kinds.items() if "r2" in row}
        scalars[f"{task}_accuracy"] = kinds["logistic"]["accuracy"]
    return scalars


def _image_scalars(results: dict[str, Any]) -> dict[str, float]:
    return {f"test_{kind}": results["rows"]["trained"][kind] for kind in ("linear", "knn")}


def _evaluate_images(config: Config, target: Run, device: torch.device) -> dict[str, Any]:
    train, test = open_images(config)
    options, model = config.probe, target.load_image_model(device)
    models = {"trained": model}
    if options.baselines:
        models["untrained"] = untrained(target.config, train, device)
    most = options.train_frames, options.test_frames
    features = read_features(models, train, test, *most, options.seed, raw=options.baselines)
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
    write_arrays(target.evaluation / "probe.npz", arrays)
    return {"data": train.source, "classes": train.class_names, **results}


def _evaluate(config: Config, target: Run, device: torch.device) -> dict[str, Any]:
    model, store, options = target.load_world_model(device), open_store(config), config.probe
    sides = split_episodes(len(store.lengths), config.data.held_out, config.data.split_seed)
    env = data_env(config, store).unwrapped
    require_actions(model, store, target)
    context, frameskip = config.data.context, config.data.frameskip
    # A change takes two frames.
    train, test = (Windows(store, episodes, max(context, 2), frameskip) for episodes in sides)
    encode = encoders(model, target.config, train, options.seed)
    draws = draw(env, encode, train, test, context, options)
    results, readers = probe_states(draws, options)

    lengths = [int(store.lengths[episodes].max()) for episodes in sides]
    depth = deepest(lengths, context, frameskip, options.horizon)
    if depth:
        long, judged = (Windows(store, episodes, context + depth, frameskip) for episodes in sides)
        results["rollouts"] = probe_rollouts(model, env, long, judged, readers, options)
    z = torch.from_numpy(draws.test.tasks["coordinates"].features["latent"])
    smallest, mean = spread(z)
    return {
        # What a linear map reads from latents, in short.
        "mean_r2": {task: kinds["ridge"]["r2"] for task, kinds in results["means"]["latent"].items()},
        **results,
        "train_frames": len(draws.of_seeds[0]),
        "test_frames": len(draws.test.indices),
        "test_episodes": len(np.unique(draws.test.episodes)),
        "frameskip": frameskip,
        "rank": rank_me(z),
        "std_min": smallest,
        "std_mean": mean,
        "latent": model.latent,
    }

"""`worldjepa geometry`: the shape of a trained model's latents, and TensorBoard's projector of them."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..config import Config
from ..data.windows import Windows, split_episodes
from ..errors import UserError
from ..evaluation.cloud import describe, distances, plane
from ..evaluation.damage import told_from
from ..evaluation.dashboard import show_points
from ..evaluation.geometry import straightness
from ..evaluation.geometry_figures import geometry_figures, geometry_table
from ..evaluation.image_probes import embed as embed_images
from ..evaluation.probes import embed, targets
from ..evaluation.verdict import verdict
from ..files import write_arrays
from ..run import Run
from ..trainer import choose_device
from .train import data_env, open_images, open_store

# Of frames as they are, the straightness of fewer windows serves as well.
PIXEL_WINDOWS = 200


class Looked(NamedTuple):
    """What was looked at: latents (N, D), of each by name what it shows, (N,), its frame by number, the test
    that SIGReg makes of a slice, and results that are of this kind of model alone."""

    z: np.ndarray
    columns: dict[str, np.ndarray]
    frames: Any
    test: torch.nn.Module
    results: dict[str, Any]


def run(config: Config) -> int:
    target = Run(config.run, config.checkpoint, config.data.path)
    device = choose_device(config.train)
    about = target.about(config, config.geometry)
    if target.result("geometry", about) is None:
        look = _images if target.config.mode == "images" else _episodes
        _write(config, target, about, look(config, target, device))
        target.close()
    path = target.evaluation / "geometry.json"
    results = target.result("geometry", about)
    assert results is not None
    with told_from(path):
        print(geometry_table(results))
        print(path, *geometry_figures(path), sep="\n")
    return 0


def _write(config: Config, target: Run, about: dict[str, Any], looked: Looked) -> None:
    """JSON, arrays, scalars and the projector's points."""
    options, z = config.geometry, looked.z
    if len(z) < 2:
        raise UserError(f"geometry: {len(z)} held-out frame or image has no shape; collect more")
    results, arrays = describe(z, looked.test, target.config.train.batch_size, options.seed)
    results |= {"columns": list(looked.columns), "verdict": verdict(target), "history": _history(target)}
    results |= looked.results
    values = np.stack([*looked.columns.values(), np.zeros(len(z))], 1)[:, :-1]
    if target.config.mode == "world_model":
        correlations, far = distances(z, values, options.pairs, options.seed)
        results |= correlations
        arrays |= far
    shown = np.sort(np.random.default_rng(options.seed).permutation(len(z))[: options.shown])
    arrays |= {"map": plane(z)[shown], "map_values": values[shown]}
    write_arrays(target.evaluation / "geometry.npz", arrays)
    step = about["checkpoint"]
    columns = {name: column[shown] for name, column in looked.columns.items()}
    show_points(target, z[shown], columns, looked.frames(shown), step)
    for name in ("isotropy", "distance_correlation", "near_correlation"):
        if name in results:
            target.writer.add_scalar(f"latent/{name}", results[name], step)
    target.writer.add_scalar("latent/rejected_slices", results["slices"][0]["rejected"], step)
    target.write_json("geometry", {**about, **results})


def _history(target: Run) -> dict[str, list[float]]:
    """What was logged of the latents while they were trained."""
    rows = [row for row in target.metrics() if "latent/rank" in row]
    names = {"step": "step", "rank": "latent/rank", "straightness": "latent/straightness"}
    return {
        short: [row[name] for row in rows] for short, name in names.items() if all(name in r for r in rows)
    }


def _episodes(config: Config, target: Run, device: torch.device) -> Looked:
    model, store, options = target.load_world_model(device), open_store(config), config.geometry
    _, held_out = split_episodes(len(store.lengths), config.data.held_out, config.data.split_seed)
    # Three frames have the two steps that straightness compares.
    windows = Windows(store, held_out, max(3, config.data.context), config.data.frameskip)
    indices = _some(len(windows), options.frames, options.seed)
    z = embed(model, windows, indices, "embed")
    columns, _ = targets(data_env(config, store).unwrapped, windows, indices)
    pixels = windows.batch(_some(len(windows), PIXEL_WINDOWS, options.seed))["pixels"]
    results = {
        "straightness": straightness(torch.from_numpy(z)),
        "pixel_straightness": straightness(pixels.flatten(2)),
    }

    def frames(numbers: np.ndarray) -> Tensor:
        return windows.batch(indices[numbers])["pixels"][:, -1]

    return Looked(z[:, -1], columns, frames, model.sigreg.test.cpu(), results)


@torch.inference_mode()
def _images(config: Config, target: Run, device: torch.device) -> Looked:
    model, (_, images) = target.load_image_model(device), open_images(config)
    indices = _some(len(images), config.geometry.frames, config.geometry.seed)
    features = torch.from_numpy(embed_images(model, images, indices, "embed"))
    z = torch.cat([model.project(part.to(device)).float().cpu() for part in features.split(1024)]).numpy()
    columns = {} if images.labels is None else {"class": images.labels[indices]}

    def frames(numbers: np.ndarray) -> Tensor:
        return images.batch(indices[numbers])["pixels"]

    return Looked(z, columns, frames, model.sigreg.test.cpu(), {"classes": images.class_names})


def _some(count: int, most: int, seed: int) -> np.ndarray:
    """Numbers below `count`, all or `most` of them, in rising order."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:most])

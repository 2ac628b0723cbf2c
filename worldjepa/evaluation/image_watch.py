"""What is watched while an image encoder trains, as callbacks: collapse, probes, the views themselves."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..config import Config
from ..data.images import Images
from ..data.views import MultiCrop
from ..image_jepa import ImageJEPA
from ..run import Run
from ..trainer import Callback
from .dashboard import set_up, show_slices, watch_verdict
from .geometry import rank_me, spread
from .image_probes import embed, fit, knn_accuracy, layer_norm, linear_predictions
from .pictures import tile

# Of the training and of the held-out images: enough to see a trend, in a second.
FITTED, QUERIES = 4000, 1000


def watch_embeddings(run: Run, pixels: Tensor) -> Callable[[ImageJEPA, int], None]:
    """Rank and spread of the latents of held-out images (N, H, W, C) uint8, their slices, the rank of their
    features, and SIGReg's floor."""

    def callback(model: ImageJEPA, step: int) -> None:
        device = next(model.parameters()).device
        features = model.features(fit(pixels.to(device), model.image_size))
        z = model.project(features).float()
        show_slices(run, z, step)
        smallest, mean = spread(z)
        scalars = {"latent/rank": rank_me(z), "latent/std_min": smallest, "latent/std_mean": mean}
        scalars["latent/feature_rank"] = rank_me(features.float())
        run.log(step, {**scalars, "train/sigreg_floor": model.sigreg.floor})

    return callback


def watch_probes(run: Run, train: Images, test: Images, penalty: float) -> Callable[[ImageJEPA, int], None]:
    """Accuracy on held-out images, in per cent, of the nearest training images' labels and of LayerNorm and a
    linear layer, fitted anew with `penalty` each time; both with labels."""
    i_train, i_test = (
        np.sort(np.random.default_rng(0).permutation(len(images))[:count])
        for images, count in ((train, FITTED), (test, QUERIES))
    )
    assert train.labels is not None
    assert test.labels is not None
    y_train, y_test = train.labels[i_train], test.labels[i_test]

    def callback(model: ImageJEPA, step: int) -> None:
        x_train, x_test = (embed(model, *side, "probes") for side in ((train, i_train), (test, i_test)))
        predicted = linear_predictions(layer_norm(x_train), y_train, layer_norm(x_test), penalty)
        scalars = {"probe/knn": 100 * knn_accuracy(x_train, y_train, x_test, y_test)}
        run.log(step, {**scalars, "probe/linear": 100 * float((predicted == y_test).mean())})

    return callback


def views_sheet(data: MultiCrop, count: int = 8) -> np.ndarray:
    """A sheet (H, W, 3) uint8: in each row an image, then its views at one size, in their order."""
    batch = next(data.batches(count, seed=0))
    columns = [batch["pixels"], *(v for name in ("global", "local") if name in batch for v in batch[name])]
    side = max(column.shape[1] for column in columns)
    cells = [fit(column, side).round().to(torch.uint8).expand(-1, -1, -1, 3).cpu() for column in columns]
    return tile(np.stack([cell.numpy() for cell in cells], 1), scale=max(1, 64 // side))


def image_callbacks(run: Run, config: Config, data: MultiCrop, train: Images, test: Images) -> list[Callback]:
    """All of the above; probes only where the images have labels, of at least two classes."""
    every = config.train.evaluate_every
    chosen = np.sort(np.random.default_rng(0).permutation(len(test))[:QUERIES])
    result: list[Callback] = [(every, watch_embeddings(run, test.batch(chosen)["pixels"]))]
    if train.labels is not None and test.labels is not None and len(np.unique(train.labels)) > 1:
        result.append((every, watch_probes(run, train, test, config.probe.ridge)))
    result.append((every, watch_verdict(run)))
    set_up(run, config)
    run.writer.add_image("data/views", views_sheet(data, min(8, len(train))), 0, dataformats="HWC")
    return result

"""How good frozen image features are: a linear probe, weighted nearest neighbours, a few labels; beside raw
pixels and the backbone before training."""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..config import Config
from ..data.images import Images
from ..data.views import resample, resampling
from ..errors import UserError
from ..image_baselines import build_image_model
from ..image_jepa import ImageJEPA
from .few_shot import few_shot
from .untrained import await_statistics

BATCH = 256
# The row of the images themselves.
RAW = "raw pixels"


@torch.inference_mode()
def embed(model: ImageJEPA, images: Images, indices: np.ndarray, label: str) -> np.ndarray:
    """Features of images by number (n,), whole and without augmentation, (n, F) float32. The model should be
    in evaluation mode."""
    device = next(model.parameters()).device
    parts = np.array_split(indices, max(1, -(-len(indices) // BATCH)))
    return np.concatenate(
        [
            model.features(fit(images.batch(part)["pixels"].to(device), model.image_size))
            .float()
            .cpu()
            .numpy()
            for part in tqdm(parts, desc=label, leave=False)
        ]
    )


def fit(pixels: Tensor, size: int) -> Tensor:
    """Images (N, H, W, C) uint8 brought to (N, size, size, C), as they are where they have that size."""
    count, height, width, _ = pixels.shape
    if (height, width) == (size, size):
        return pixels
    rows, columns = (
        resampling(np.zeros(1), np.full(1, float(side)), side, size, device=pixels.device)
        for side in (height, width)
    )
    images = pixels.permute(0, 3, 1, 2).float()
    matrices = rows.expand(1, count, -1, -1), columns.expand(1, count, -1, -1)
    return resample(images, *matrices)[0].permute(0, 2, 3, 1)


def knn_accuracy(
    x_train: np.ndarray,
    y_train: np.ndarray,
    x_test: np.ndarray,
    y_test: np.ndarray,
    neighbours: int = 20,
    temperature: float = 0.07,
) -> float:
    """Share of test samples whose class the nearest training samples vote for, each with the weight
    exp(cosine similarity / temperature) (Wu et al., arXiv 1805.01978, section 3.4).

    Args:
        x_train, x_test: (n, d). y_train, y_test: (n,) int64.
        neighbours: voters; at most as many as there are training samples.
    """
    bank, queries = (nn.functional.normalize(torch.from_numpy(x).float(), dim=1) for x in (x_train, x_test))
    labels, classes = torch.from_numpy(y_train), int(max(y_train.max(), y_test.max())) + 1
    predicted = []
    for part in queries.split(BATCH):
        similarity, nearest = (part @ bank.T).topk(min(neighbours, len(bank)))
        # The largest is taken off so that none overflows.
        weight = torch.exp((similarity - similarity[:, :1]) / temperature)
        votes = torch.zeros(len(part), classes).scatter_add_(1, labels[nearest], weight)
        predicted.append(votes.argmax(1).numpy())
    return float((np.concatenate(predicted) == y_test).mean())


def layer_norm(features: np.ndarray) -> np.ndarray:
    """Features (n, F) with mean 0 and variance 1 within each row: LayerNorm without gain and bias, which a
    linear layer after it holds as well."""
    rows = torch.from_numpy(features)
    return nn.functional.layer_norm(rows, rows.shape[1:]).numpy()


def linear_predictions(
    x_train: np.ndarray, y_train: np.ndarray, x_test: np.ndarray, penalty: float
) -> np.ndarray:
    """Classes (m,) int64 that a linear layer gives test samples, fitted to its optimum: a multinomial
    logistic regression on standardised features.

    Args:
        x_train, x_test: (n, d), (m, d). y_train: (n,) int64. penalty: of the squared weights.
    """
    # scikit-learn is slow to import; a training, which asks neighbours, does not wait.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    regression = LogisticRegression(C=1 / max(penalty, 1e-12), max_iter=300, tol=1e-3)
    with warnings.catch_warnings():
        # Where it has not quite converged, accuracy no longer moves.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return make_pipeline(StandardScaler(), regression).fit(x_train, y_train).predict(x_test)


@torch.no_grad()
def untrained(config: Config, images: Images, device: torch.device) -> ImageJEPA:
    """The model before its first step, in evaluation mode, but for its encoder's BatchNorms: they take their
    statistics from training images, as those of a trained encoder have."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.train.seed)
        model = build_image_model(config, images.num_classes).to(device)
    await_statistics(model)
    order = np.random.default_rng(config.train.seed).permutation(len(images))
    for part in np.array_split(order[: 16 * BATCH], 16):
        # A BatchNorm needs two.
        if len(part) > 1:
            model.features(fit(images.batch(part)["pixels"].to(device), model.image_size))
    return model.eval()


class Features(NamedTuple):
    """Features of training and test images, (n, F) each by the name of their row, with the images' numbers
    and labels, (n,) int64."""

    rows: dict[str, tuple[np.ndarray, np.ndarray]]
    train_numbers: np.ndarray
    test_numbers: np.ndarray
    y_train: np.ndarray
    y_test: np.ndarray


def read_features(
    models: dict[str, ImageJEPA],
    train: Images,
    test: Images,
    train_images: int,
    test_images: int,
    seed: int,
    raw: bool = True,
) -> Features:
    """Each model's features, of so many images at most, drawn by `seed`.

    Args:
        models: by the name of their row, in evaluation mode.
        train, test: with labels.
        raw: whether raw pixels are a row too, the last one.

    Raises:
        UserError: the images have no labels, or only one class.
    """
    if train.labels is None or test.labels is None:
        raise UserError(f"{train.source}: its images have no labels; a probe needs a folder for each class")
    rng = np.random.default_rng(seed)
    i_train, i_test = (
        np.sort(rng.permutation(len(images))[:count])
        for images, count in ((train, train_images), (test, test_images))
    )
    y_train, y_test = train.labels[i_train], test.labels[i_test]
    if len(np.unique(y_train)) < 2:
        raise UserError(f"{train.source}: the images are of one class; a probe needs two")
    rows = {
        name: (embed(model, train, i_train, f"embed, {name}"), embed(model, test, i_test, f"embed, {name}"))
        for name, model in models.items()
    }
    if raw:
        raw_train, raw_test = (
            images.batch(i)["pixels"].flatten(1).numpy().astype(np.float32)
            for images, i in ((train, i_train), (test, i_test))
        )
        rows[RAW] = raw_train, raw_test
    return Features(rows, i_train, i_test, y_train, y_test)


def probe_images(
    data: Features, shots: Sequence[int], draws: int, penalty: float, seed: int
) -> dict[str, Any]:
    """What can be told from each row's features: by a linear probe, by nearest neighbours, from few labels.

    The linear probe is LeJEPA's, LayerNorm and a linear layer; of raw pixels, whose brightness LayerNorm
    would take away, the linear layer alone.

    Args:
        data: the features.
        shots, draws: of `few_shot`.
        penalty: of the linear probes.
        seed: of the draws.

    Returns:
        "rows": {name: {"linear", "knn": accuracy in per cent, "shots": of `few_shot`, "features": how many}};
        "confusion": of the first row's linear probe, of the test images of class i how many were said to be
        of class j; "train_images", "test_images".
    """
    from sklearn.metrics import confusion_matrix

    rows, confusion = {}, None
    for name, (x_train, x_test) in tqdm(data.rows.items(), desc="probe", leave=False):
        sides = x_train, data.y_train, x_test, data.y_test
        seen = sides[::2] if name == RAW else [layer_norm(x) for x in sides[::2]]
        predicted = linear_predictions(seen[0], data.y_train, seen[1], penalty)
        if confusion is None:
            classes = np.arange(max(data.y_train.max(), data.y_test.max()) + 1)
            confusion = confusion_matrix(data.y_test, predicted, labels=classes).tolist()
        rows[name] = {
            "linear": 100 * float((predicted == data.y_test).mean()),
            "knn": 100 * knn_accuracy(*sides),
            "shots": few_shot(*sides, shots, draws, penalty, seed),
            "features": x_train.shape[1],
        }
    counts = {"train_images": len(data.y_train), "test_images": len(data.y_test)}
    return {"rows": rows, "confusion": confusion, **counts}

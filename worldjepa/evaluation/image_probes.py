"""How good frozen image features are: a linear probe and weighted nearest neighbours, beside raw pixels and
the backbone before training."""

import warnings
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from tqdm import tqdm

from ..config import Config
from ..data.images import Images
from ..data.views import resample, resampling
from ..errors import UserError
from ..image_baselines import build_image_model
from ..image_jepa import ImageJEPA

BATCH = 256


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


def linear_accuracy(
    x_train: np.ndarray, y_train: np.ndarray, x_test: np.ndarray, y_test: np.ndarray, penalty: float
) -> float:
    """Accuracy on the test samples of a multinomial logistic regression on standardised features.

    Args:
        x_train, x_test: (n, d). y_train, y_test: (n,) int64. penalty: of the squared weights.
    """
    regression = LogisticRegression(C=1 / max(penalty, 1e-12), max_iter=300, tol=1e-3)
    with warnings.catch_warnings():
        # Where it has not quite converged, accuracy no longer moves.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return float(make_pipeline(StandardScaler(), regression).fit(x_train, y_train).score(x_test, y_test))


@torch.no_grad()
def untrained(config: Config, images: Images, device: torch.device) -> ImageJEPA:
    """The model before its first step, in evaluation mode, but for its encoder's BatchNorms: they take their
    statistics from training images, as those of a trained encoder have."""
    torch.manual_seed(config.train.seed)
    model = build_image_model(config, images.num_classes).to(device).train()
    order = np.random.default_rng(config.train.seed).permutation(len(images))
    for part in np.array_split(order[: 16 * BATCH], 16):
        # A BatchNorm needs two.
        if len(part) > 1:
            model.features(fit(images.batch(part)["pixels"].to(device), model.image_size))
    return model.eval()


def probe_images(
    models: dict[str, ImageJEPA],
    train: Images,
    test: Images,
    train_images: int,
    test_images: int,
    penalty: float,
    seed: int,
) -> dict[str, Any]:
    """Linear probe and nearest neighbours on the test images, of each model's features and of raw pixels.

    Args:
        models: by the name of their row, in evaluation mode.
        train, test: with labels.
        train_images, test_images: how many of each at most, drawn by `seed`.
        penalty: of the linear probe.

    Returns:
        "rows": {name: {"linear", "knn": accuracy in per cent, "features": how many}}, "train_images",
        "test_images".

    Raises:
        UserError: the images have no labels, or only one class.
    """
    if train.labels is None or test.labels is None:
        raise UserError(f"{train.source}: its images have no labels; a probe needs a folder for each class")
    rng = np.random.default_rng(seed)
    chosen = [
        (images, np.sort(rng.permutation(len(images))[:count]))
        for images, count in ((train, train_images), (test, test_images))
    ]
    y_train, y_test = train.labels[chosen[0][1]], test.labels[chosen[1][1]]
    if len(np.unique(y_train)) < 2:
        raise UserError(f"{train.source}: the images are of one class; a probe needs two")
    features = {
        name: [embed(model, *side, f"embed, {name}") for side in chosen] for name, model in models.items()
    }
    features["raw pixels"] = [
        images.batch(i)["pixels"].flatten(1).numpy().astype(np.float32) for images, i in chosen
    ]
    rows = {
        name: {
            "linear": 100 * linear_accuracy(x_train, y_train, x_test, y_test, penalty),
            "knn": 100 * knn_accuracy(x_train, y_train, x_test, y_test),
            "features": x_train.shape[1],
        }
        for name, (x_train, x_test) in features.items()
    }
    return {"rows": rows, "train_images": len(y_train), "test_images": len(y_test)}

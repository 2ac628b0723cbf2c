"""Probes of image features: neighbours against scikit-learn, and what wrong data say."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from worldjepa.data.images import from_arrays
from worldjepa.errors import UserError
from worldjepa.evaluation.image_figures import image_probe_table
from worldjepa.evaluation.image_probes import (
    embed,
    fit,
    knn_accuracy,
    layer_norm,
    linear_predictions,
    probe_images,
    read_features,
    untrained,
)
from worldjepa.evaluation.tables import Table, blocks
from worldjepa.image_jepa import ImageJEPA
from worldjepa.recipes import load_config

CPU = torch.device("cpu")


def clouds(count: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Three classes around three directions."""
    rng = np.random.default_rng(count)
    labels = np.arange(count) % 3
    return (np.eye(3, 8)[labels] + rng.normal(0, spread, (count, 8))).astype(np.float32), labels


@pytest.mark.parametrize("neighbours", [1, 5, 20])
def test_neighbours_vote_as_scikit_learns(neighbours: int) -> None:
    (x, y), (x_test, y_test) = clouds(600, 0.7), clouds(301, 0.7)
    sides = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, x_test)]

    def weights(distance: np.ndarray) -> np.ndarray:
        # Of unit vectors, |a - b|² = 2 - 2 a·b.
        return np.exp((1 - distance**2 / 2) / 0.07)

    reference = KNeighborsClassifier(neighbours, weights=weights).fit(sides[0], y).score(sides[1], y_test)
    assert 0.4 < reference < 0.95
    assert knn_accuracy(3 * x, y, 0.2 * x_test, y_test, neighbours) == pytest.approx(reference)


def test_what_is_clear_is_read_and_what_is_not_there_is_not() -> None:
    (x, y), (x_test, y_test) = clouds(300, 0.1), clouds(150, 0.1)
    noise = np.random.default_rng(0).permutation(y)

    def linear(x: np.ndarray, y: np.ndarray, x_test: np.ndarray, y_test: np.ndarray) -> float:
        return float((linear_predictions(x, y, x_test, 1.0) == y_test).mean())

    for accuracy in (knn_accuracy, linear):
        assert accuracy(x, y, x_test, y_test) == 1
        assert accuracy(x, noise, x_test, y_test) < 0.6


def test_the_linear_probe_of_features_is_layer_norm_and_a_linear_layer() -> None:
    """Trained by gradient, as LeJEPA's authors do, it says the same."""
    (x, y), (x_test, _) = clouds(300, 0.5), clouds(400, 0.5)
    # Scale and offset of a sample, which a linear layer alone would see.
    x, x_test = (v * np.linspace(1, 30, len(v), dtype=np.float32)[:, None] + 50 for v in (x, x_test))
    probe = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 3))
    optimizer = torch.optim.LBFGS(probe.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = nn.functional.cross_entropy(probe(torch.from_numpy(x)), torch.from_numpy(y))
        value.backward()
        return value

    optimizer.step(loss)
    expected = probe(torch.from_numpy(x_test)).argmax(1).numpy()
    predicted = linear_predictions(layer_norm(x), y, layer_norm(x_test), 1e-6)
    assert (predicted == expected).mean() > 0.98
    np.testing.assert_allclose(layer_norm(3 * x_test - 7), layer_norm(x_test), atol=1e-3)


def test_fewer_samples_than_neighbours_vote_all() -> None:
    x, y = clouds(6, 0.1)
    assert knn_accuracy(x, y, x, y, neighbours=20) == 1


def model() -> ImageJEPA:
    return ImageJEPA(load_config("images_smoke")).eval()


def pictures(labels: np.ndarray | None, side: int = 16) -> np.ndarray:
    """Images whose brightness tells the class."""
    rng = np.random.default_rng(0)
    level = 60 * labels[:, None, None, None] + 40
    return (level + rng.integers(0, 30, (len(labels), side, side, 1))).astype(np.uint8)


def test_features_are_those_of_the_whole_images_in_their_order() -> None:
    encoder, labels = model(), np.arange(300) % 3
    images = from_arrays("these", pictures(labels), labels)
    chosen = np.array([5, 299, 0])
    expected = encoder.features(images.batch(chosen)["pixels"]).detach().numpy()
    everything = embed(encoder, images, np.arange(300), "")
    np.testing.assert_allclose(everything[chosen], expected, rtol=1e-4, atol=1e-5)


def test_images_are_fitted_to_the_models_size() -> None:
    pixels = torch.full((2, 8, 40, 3), 70, dtype=torch.uint8)
    torch.testing.assert_close(fit(pixels, 16), torch.full((2, 16, 16, 3), 70.0))
    square = torch.zeros(2, 16, 16, 1, dtype=torch.uint8)
    assert fit(square, 16) is square


def test_a_probe_compares_the_models_with_raw_pixels() -> None:
    labels = np.arange(120) % 3
    train, test = (from_arrays("these", pictures(labels), labels) for _ in range(2))
    models = {"trained": model(), "untrained": model()}
    results = probe_images(read_features(models, train, test, 100, 50, 0), [1, 5], 2, 1.0, 0)
    assert list(results["rows"]) == ["trained", "untrained", "raw pixels"]
    assert (results["train_images"], results["test_images"]) == (100, 50)
    raw = results["rows"]["raw pixels"]
    assert (raw["linear"], raw["features"], list(raw["shots"])) == (100, 256, ["1", "5"])
    assert 30 <= raw["knn"] <= 100
    assert np.sum(results["confusion"]) == np.trace(results["confusion"]) == 50
    assert results["rows"]["trained"]["features"] == 64
    assert results["rows"]["trained"]["linear"] == 100
    table, note = blocks(image_probe_table({"data": "these", **results}))
    assert isinstance(table, Table)
    assert table.head == ["these", "linear probe", "kNN", "1-shot", "5-shot", "features"]
    assert [row[0] for row in table.rows] == ["trained", "untrained", "raw pixels"]
    assert (table.rows[2][1], table.rows[2][-1]) == ("100.00 %", "256")
    assert note == "Accuracy on 50 test images, fitted on 100 training images."


def test_the_untrained_model_is_that_of_the_seed_with_batch_statistics() -> None:
    config, labels = load_config("images_smoke", ["train.seed=3"]), np.arange(200) % 3
    images = from_arrays("these", pictures(labels), labels)
    found = untrained(config, images, CPU)
    torch.manual_seed(3)
    fresh = ImageJEPA(config)
    for (name, mine), theirs in zip(found.named_parameters(), fresh.parameters(), strict=True):
        assert torch.equal(mine, theirs), name
    features = torch.from_numpy(embed(found, images, np.arange(200), ""))
    assert found.training is False
    assert not torch.allclose(features[:50], fresh.eval().features(images.batch(np.arange(50))["pixels"]))
    # Nothing of the mean 0 that it was made with is left in the statistics: of the first one they are those
    # of its inputs.
    sums: list[torch.Tensor] = []
    stem = fresh.encoder.backbone.stem
    stem[0].register_forward_hook(lambda _, __, y: sums.append(y.mean((0, 2, 3))))
    with torch.no_grad():
        fresh.features(images.batch(np.arange(200))["pixels"])
    mine = found.encoder.backbone.stem[1].running_mean
    torch.testing.assert_close(mine, sums[0], rtol=0.05, atol=0.01)


@pytest.mark.parametrize(
    ("labels", "right"),
    [
        (None, "these: its images have no labels"),
        (np.zeros(20, np.int64), "these: the images are of one class"),
    ],
)
def test_images_that_can_not_be_probed_are_named(labels: np.ndarray | None, right: str) -> None:
    images = from_arrays("these", np.zeros((20, 16, 16, 1), np.uint8), labels)
    with pytest.raises(UserError, match=right):
        read_features({"trained": model()}, images, images, 10, 10, 0)

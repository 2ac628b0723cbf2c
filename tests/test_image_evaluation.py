"""Few labels, fine-tuning, what is found for an image, and the figures of all of it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from scipy import stats

from worldjepa import cli
from worldjepa.data.images import from_arrays
from worldjepa.errors import UserError
from worldjepa.evaluation.few_shot import few_shot, interval
from worldjepa.evaluation.fine_tuning import fine_tuned_accuracy
from worldjepa.evaluation.image_maps import flat_map, image_arrays, nearest
from worldjepa.image_jepa import ImageJEPA
from worldjepa.recipes import load_config


def clouds(count: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Four classes around four directions."""
    rng = np.random.default_rng(count)
    labels = np.arange(count) % 4
    return (np.eye(4, 8)[labels] + rng.normal(0, spread, (count, 8))).astype(np.float32), labels


def test_more_labels_tell_more_and_chance_is_chance() -> None:
    (x, y), (x_test, y_test) = clouds(800, 0.5), clouds(400, 0.5)
    result = few_shot(x, y, x_test, y_test, [1, 10, 100, 500], 6, 1.0, 0)
    # Of each class there are 200: 500 are left out.
    assert list(result) == ["1", "10", "100"]
    means = [row["mean"] for row in result.values()]
    assert means[0] < means[1] < means[2]
    assert all(row["low"] < row["mean"] < row["high"] for row in result.values())
    blind = few_shot(x, np.random.default_rng(1).permutation(y), x_test, y_test, [5], 6, 1.0, 0)["5"]
    assert abs(blind["mean"] - 25) < 12


def test_draws_are_of_the_seed() -> None:
    (x, y), (x_test, y_test) = clouds(400, 0.6), clouds(200, 0.6)

    def once(seed: int) -> dict[str, dict[str, float]]:
        return few_shot(x, y, x_test, y_test, [2], 3, 1.0, seed)

    assert once(0) == once(0) != once(1)


def test_the_interval_is_students() -> None:
    values = [3.0, 5.0, 4.0, 9.0]
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert interval(values) == (pytest.approx(low), pytest.approx(high))
    assert interval([7.0]) == (7.0, 7.0)


def pictures(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Bright above or bright below: a mean over the image does not tell."""
    rng, labels = np.random.default_rng(0), np.arange(count) % 2
    pixels = rng.integers(0, 60, (count, 16, 16, 1))
    pixels[labels == 0, :8] += 150
    pixels[labels == 1, 8:] += 150
    return pixels.astype(np.uint8), labels


def test_fine_tuning_learns_and_leaves_the_model_alone() -> None:
    torch.manual_seed(0)
    config = load_config("images_smoke", ["images.global_scale_min=0.9", "images.jitter=0"])
    model = ImageJEPA(config).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    pixels, labels = pictures(512)
    images = from_arrays("these", pixels, labels)

    def tuned(epochs: int) -> float:
        return fine_tuned_accuracy(model, images, images, config.images, epochs, 1e-2, torch.float32, 0)

    assert tuned(8) > 95
    assert tuned(0) < 80
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert not model.training


def test_the_nearest_are_those_of_the_smallest_angle() -> None:
    bank = np.array([[1.0, 0], [0, 2], [3, 3.1], [-1, 0]])
    assert nearest(np.array([[5.0, 0.1]]), bank, 3).tolist() == [[0, 2, 1]]


@pytest.mark.parametrize("kind", ["pca", "tsne"])
def test_a_map_keeps_classes_apart(kind: str) -> None:
    x, y = clouds(120, 0.1)
    for count in (1, 2, 3):
        assert flat_map(x[:count], kind, 0).shape == (count, 2)
    points = flat_map(x, kind, 0)
    assert points.shape == (120, 2)
    centres = np.stack([points[y == c].mean(0) for c in range(4)])
    distance = np.linalg.norm(points[:, None] - centres, axis=-1)
    assert (distance.argmin(1) == y).mean() > 0.7


def test_queries_are_of_each_class_in_turn_and_find_their_like() -> None:
    x, y = clouds(80, 0.02)
    images = from_arrays(
        "these", np.arange(80, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 1), np.uint8), y
    )
    numbers = np.arange(0, 80, 2)
    arrays = image_arrays(images, images, numbers, numbers, x[::2], x[::2], "pca", 0)
    # Even numbers alone: classes 0 and 2.
    assert arrays["query_labels"].tolist() == [0, 2] * 5
    assert (arrays["found_labels"] == arrays["query_labels"][:, None]).all()
    # Each finds itself first.
    assert np.array_equal(arrays["found"][:, 0], arrays["queries"])
    assert (y[arrays["queries"][:, 0, 0, 0]] == arrays["query_labels"]).all()


def test_the_command_fine_tunes_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert cli.main(["train", "images_smoke", f"run={run}"]) == 0
    words = ["probe.fine_tune_epochs=1", "probe.shots=1,5", "probe.draws=2", "probe.map=pca"]
    assert cli.main(["probe", str(run), *words]) == 0
    results = json.loads((run / "evaluation" / "probe.json").read_text())
    assert list(results["rows"]["trained"]["shots"]) == ["1", "5"]
    assert 0 < results["rows"]["untrained"]["fine_tuned"] <= 100
    assert "fine_tuned" not in results["rows"]["raw pixels"]
    confusion = np.array(results["confusion"])
    assert confusion.sum() == results["test_images"]
    assert 100 * confusion.trace() / confusion.sum() == pytest.approx(results["rows"]["trained"]["linear"])
    assert results["classes"] == [str(i) for i in range(10)]
    table = capsys.readouterr().out
    assert "1-shot" in table
    assert "fine-tuned" in table
    for name in ("probe.png", "retrieval.png"):
        assert imread(run / "evaluation" / name).std() > 0.05


@pytest.mark.parametrize("shots", ["", "0", "1,two"])
def test_shots_are_numbers(shots: str) -> None:
    with pytest.raises(UserError, match="whole numbers from 1 on with commas between"):
        load_config("images_smoke", [f"probe.shots={shots}"])

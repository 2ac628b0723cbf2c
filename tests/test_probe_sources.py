"""What latents are compared with: an encoder before its first step, and pixels through PCA."""

from pathlib import Path

import numpy as np
import pytest
import torch
from moving_dot import dot_windows, write_dots
from sklearn.decomposition import PCA

from worldjepa.config import Config
from worldjepa.data.windows import Windows
from worldjepa.evaluation.probe_sources import encoders, pixel_pca, read_windows, untrained
from worldjepa.recipes import load_config
from worldjepa.world_baselines import build_world_model

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Windows:
    return dot_windows(write_dots(tmp_path_factory.mktemp("dots")), 1, 1)


@pytest.fixture(scope="module")
def config() -> Config:
    return load_config("smoke")


def test_the_untrained_encoder_is_the_one_that_training_began_with(frames: Windows, config: Config) -> None:
    state = torch.random.get_rng_state()
    model = untrained(config, frames, np.arange(200), CPU)
    assert torch.equal(state, torch.random.get_rng_state())
    torch.manual_seed(config.train.seed)
    begun = build_world_model(config, 2)
    for (name, weight), (_, first) in zip(model.named_parameters(), begun.named_parameters(), strict=True):
        assert torch.equal(weight, first), name
    assert not any(module.training for module in model.modules())
    # Its BatchNorms know the frames: latents are about standardised, as those of a trained one.
    with torch.no_grad():
        z = model.encode(frames.batch(np.arange(200))["pixels"][:, 0])
    assert 0.3 < float(z.std(0).mean()) < 2


def test_pixels_go_through_the_principal_components_of_training_frames(frames: Windows) -> None:
    indices = np.arange(0, 240, 2)
    flat = frames.batch(indices)["pixels"][:, 0].permute(0, 3, 1, 2).flatten(1).numpy().astype(np.float64)
    expected = PCA(5).fit(flat).transform(flat)
    found = pixel_pca(frames, indices, 5, seed=0)(frames.batch(indices)["pixels"][:, 0])
    assert found.dtype == np.float32
    # A component's sign is nobody's.
    assert np.abs(found) == pytest.approx(np.abs(expected), rel=1e-2, abs=1e-2 * np.abs(expected).max())


def test_there_are_no_more_components_than_frames(frames: Windows) -> None:
    encode = pixel_pca(frames, np.arange(7), 100, seed=0)
    assert encode(frames.batch(np.arange(3))["pixels"][:, 0]).shape == (3, 7)


def test_large_frames_are_averaged_first(tmp_path: Path) -> None:
    small = torch.randint(0, 256, (9, 64, 64, 3), dtype=torch.uint8)
    large = small.repeat_interleave(2, 1).repeat_interleave(2, 2)

    class Frames:
        def __init__(self, pixels: torch.Tensor):
            self.pixels = pixels

        def batch(self, indices: np.ndarray) -> dict[str, torch.Tensor]:
            return {"pixels": self.pixels[indices][:, None]}

    one, other = (pixel_pca(Frames(p), np.arange(9), 4, seed=0)(p) for p in (small, large))  # type: ignore[arg-type]
    assert np.allclose(one, other, atol=0.1)


def test_every_source_is_read_of_the_same_frames(frames: Windows, config: Config) -> None:
    model = build_world_model(config, 2).eval()
    windows = Windows(frames.store, np.arange(4), 3, 2)
    encode = encoders(model, config, windows, seed=0)
    assert list(encode) == ["latent", "untrained", "pixels, PCA"]
    sample = read_windows(encode, windows, np.array([40, 3, 4, 5]), "")
    assert {x.shape for x in sample.features.values()} == {(4, 3, 16)}
    with torch.no_grad():
        z = model.encode(windows.batch(sample.indices)["pixels"]).numpy()
    assert sample.features["latent"] == pytest.approx(z, abs=1e-5)

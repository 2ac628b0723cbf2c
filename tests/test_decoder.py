"""The decoder: learns what latents hold, tells who imagines well from who does not, is kept with the run."""

import json
import math
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import pytest
import torch
from moving_dot import DotModel, dot_windows, write_dots

from worldjepa.config import DecodeConfig
from worldjepa.data.windows import Windows
from worldjepa.evaluation import decoder as decoders
from worldjepa.evaluation.decoder import (
    LatentDecoder,
    decode,
    fit_decoder,
    judge,
    learning,
    load_decoder,
    psnr,
    save_decoder,
)
from worldjepa.evaluation.decoder_figures import decode_figure, decode_film, decode_table

OPTIONS = DecodeConfig(train_frames=600, steps=120, width=4, learning_rate=5e-3)


@pytest.fixture(scope="module")
def windows(tmp_path_factory: pytest.TempPathFactory) -> Windows:
    """Of three frames seen and five imagined, of other episodes than the decoder learns from."""
    return dot_windows(write_dots(tmp_path_factory.mktemp("held out"), seed=1), 8, 1)


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> LatentDecoder:
    """Of the dot's own coordinates."""
    training = dot_windows(write_dots(tmp_path_factory.mktemp("training"), episodes=20), 1, 1)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        before = torch.get_rng_state()
        decoder = fit_decoder(DotModel().eval(), training, 32, OPTIONS)
        assert torch.equal(torch.get_rng_state(), before)
    return decoder


# Learning


def test_frames_are_read_from_latents_that_hold_them(learnt: LatentDecoder, windows: Windows) -> None:
    mse = judge(DotModel().eval(), learnt, windows, np.arange(0, 180, 5), 3)
    assert list(mse) == ["reconstructed", "imagined", "last frame seen", "mean frame"]
    assert {values.shape for values in mse.values()} == {(5,)}
    assert mse["reconstructed"].max() < 0.2 * mse["mean frame"].min()
    # A perfect model's imagination is what is seen.
    assert np.abs(mse["imagined"] / mse["reconstructed"] - 1).max() < 0.1


def test_who_believes_that_nothing_moves_imagines_worse_and_worse(
    learnt: LatentDecoder, windows: Windows
) -> None:
    mse = judge(DotModel(moves=0.0).eval(), learnt, windows, np.arange(0, 180, 5), 3)
    assert mse["imagined"][0] > 1.5 * mse["reconstructed"][0]
    assert mse["imagined"][-1] > 2 * mse["imagined"][0]
    # Which is to guess the last frame seen.
    assert mse["imagined"][-1] == pytest.approx(mse["last frame seen"][-1], rel=0.25)


def test_errors_are_means_over_windows_whatever_is_taken_at_once(
    learnt: LatentDecoder, windows: Windows
) -> None:
    indices = np.arange(3, 40)
    found = judge(DotModel().eval(), learnt, windows, indices, 3)
    batch = windows.batch(indices)
    decoded = decode(DotModel().eval(), learnt, batch, 3)
    true = batch["pixels"].numpy() / 255
    assert decoded.true.shape == decoded.reconstructed.shape == decoded.imagined.shape == (37, 8, 32, 32, 3)
    assert torch.equal(decoded.imagined[:, :3], decoded.reconstructed[:, :3])
    by_hand = {
        "reconstructed": decoded.reconstructed.numpy()[:, 3:],
        "imagined": decoded.imagined.numpy()[:, 3:],
        "last frame seen": true[:, 2:3],
        "mean frame": learnt.mean_frame.numpy(),
    }
    for name, guess in by_hand.items():
        expected = np.square(guess - true[:, 3:]).mean((0, 2, 3, 4))
        assert found[name] == pytest.approx(expected, rel=1e-4)


def test_the_mean_frame_is_that_of_the_frames_it_learns_from(tmp_path: Path) -> None:
    training = dot_windows(write_dots(tmp_path, episodes=3, length=120), 1, 1)
    options = DecodeConfig(train_frames=300, steps=1, width=2)
    decoder = fit_decoder(DotModel().eval(), training, 32, options)
    chosen = np.random.default_rng(0).permutation(360)[:300]
    pixels = training.batch(np.sort(chosen))["pixels"].numpy()
    assert decoder.mean_frame.numpy() == pytest.approx(pixels.mean((0, 1)) / 255, abs=1e-6)


def test_one_seed_one_decoder(tmp_path: Path) -> None:
    training = dot_windows(write_dots(tmp_path), 1, 1)
    one, same, other = (
        fit_decoder(DotModel().eval(), training, 32, DecodeConfig(steps=2, width=2, seed=seed)).state_dict()
        for seed in (1, 1, 2)
    )
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("side", [32, 20])
def test_shapes(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "AT_ONCE", 4)
    decoder = LatentDecoder(5, side, 2).eval()
    z = torch.randn(2, 3, 5)
    assert decoder(z).shape == (2, 3, side, side, 3)
    frames = decoder.frames(100 * z)
    assert frames.min() >= 0
    assert frames.max() <= 1
    assert torch.allclose(frames, decoder(100 * z).clamp(0, 1), atol=1e-5)


@pytest.mark.parametrize(
    ("mse", "expected"), [(1.0, 0.0), (0.01, 20.0), (0.25, 20 * math.log10(2)), (0, 100)]
)
def test_psnr(mse: float, expected: float) -> None:
    assert psnr(mse) == pytest.approx(expected)


# Kept with the run


def test_weights_come_back_if_they_are_those_asked_for(tmp_path: Path) -> None:
    path, about = tmp_path / "evaluation" / "decoder.safetensors", {"options": {"width": 2}, "checkpoint": 6}
    decoder = LatentDecoder(4, 16, 2)
    assert load_decoder(path, about, LatentDecoder(4, 16, 2)) is None
    save_decoder(decoder, path, about)
    assert [p.name for p in path.parent.iterdir()] == ["decoder.safetensors"]
    found = load_decoder(path, about, LatentDecoder(4, 16, 2))
    assert found is not None
    assert not found.training
    assert all(torch.equal(v, found.state_dict()[k]) for k, v in decoder.state_dict().items())
    assert load_decoder(path, about | {"checkpoint": 7}, LatentDecoder(4, 16, 2)) is None
    assert load_decoder(path, about, LatentDecoder(4, 16, 3)) is None
    path.write_bytes(path.read_bytes()[:200])
    assert load_decoder(path, about, LatentDecoder(4, 16, 2)) is None


def test_what_is_shown_is_no_part_of_learning() -> None:
    assert learning(DecodeConfig()) == learning(DecodeConfig(horizon=3, windows=7, episodes=1))
    for option in ("train_frames", "steps", "batch_size", "learning_rate", "width", "seed"):
        assert learning(DecodeConfig(**{option: 77})) != learning(DecodeConfig())


# Table and pictures


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """What the command leaves: 3 episodes of 2 frames seen and 3 imagined, all of one colour each."""
    mse = {"reconstructed": [0.01] * 3, "imagined": [0.01, 0.02, 0.03], "last frame seen": [0.1] * 3}
    results: dict[str, Any] = {"windows": 50, "frameskip": 5, "context": 2}
    results |= {"mse": mse | {"mean frame": [0.04] * 3}}
    path = tmp_path / "decode.json"
    path.write_text(json.dumps(results))
    shades = {"true": 40, "reconstructed": 90, "imagined": 140}
    np.savez(
        path.with_suffix(".npz"),
        **{name: np.full((3, 5, 16, 16, 3), shade, np.uint8) for name, shade in shades.items()},
    )
    return path


def test_the_table_tells_every_number(left: Path) -> None:
    table = decode_table(json.loads(left.read_text()))
    lines = table.splitlines()
    assert lines[0] == "| frames ahead | reconstructed | imagined | last frame seen | mean frame |"
    assert lines[1] == "|---|---|---|---|---|"
    assert lines[3] == "| 2 | 20.00 dB | 16.99 dB | 10.00 dB | 13.98 dB |"
    assert lines[5] == "| all | 20.00 dB | 16.99 dB | 10.00 dB | 13.98 dB |"
    assert "of 50 stretches of held-out episodes, 5 environment steps apart, the first 2 seen" in table
    assert table.endswith("reconstructed 75.0 %, imagined 50.0 %, last frame seen -150.0 %.")


def test_the_figure_shows_strips_and_curves(left: Path) -> None:
    path = decode_figure(left)
    assert path == left.with_suffix(".png")
    picture = imageio.imread(path)[..., :3]
    for shade in (40, 90, 140):
        assert (picture == shade).all(-1).mean() > 0.05
    # Of nine strips of five frames three lack the two that were seen.
    shares = [(picture == shade).all(-1).mean() for shade in (40, 140)]
    assert shares[1] / shares[0] == pytest.approx(3 / 5, abs=0.05)


def test_the_film_shows_every_frame_and_borders_what_is_imagined(left: Path) -> None:
    moving = np.arange(5, dtype=np.uint8)[None, :, None, None, None] * 40
    frames = {
        name: np.broadcast_to(moving, (3, 5, 16, 16, 3)) for name in ("true", "reconstructed", "imagined")
    }
    np.savez(left.with_suffix(".npz"), **frames)
    mp4, gif = decode_film(left)
    assert mp4.stat().st_size > 0
    pictures = imageio.imread(gif, index=None)
    imagined = [(np.abs(p.astype(int) - (200, 85, 61)).max(-1) < 12).mean() for p in pictures]
    assert len(imagined) == 5
    assert max(imagined[:2]) == 0
    assert min(imagined[2:]) > 0.01

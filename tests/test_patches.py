"""Patches of a ViT: attention as timm computes it, colours, masks and their overlap."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import pytest
import timm
import torch
from matplotlib.image import imread

from worldjepa.encoders import Encoder
from worldjepa.errors import UserError
from worldjepa.evaluation.patches import (
    attention_masks,
    best_overlap,
    compare_with_segmentation,
    component_colours,
    look,
    overlap,
)
from worldjepa.image_jepa import ImageJEPA
from worldjepa.model_config import EncoderConfig
from worldjepa.recipes import load_config
from worldjepa.run import Run
from worldjepa.trainer import initial_state
from worldjepa.world_model import WorldModel


def vit(**options: int) -> Encoder:
    return Encoder(EncoderConfig(name="test_vit", patch_size=8, **options), 32).eval()


@pytest.mark.parametrize("options", [{}, {"register_tokens": 4}, {"layers": 2}])
def test_attention_and_tokens_are_timms_own(options: dict[str, int]) -> None:
    encoder = vit(**options)
    images = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8)
    with torch.no_grad():
        features = encoder(images)
    found = look(encoder, images)
    with torch.no_grad():
        # What computes less of the last block does so again.
        assert torch.equal(encoder(images), features)
    prefix = 1 + options.get("register_tokens", 0)
    model = timm.create_model("test_vit", img_size=32, patch_size=8, num_classes=0, reg_tokens=prefix - 1)
    model.load_state_dict(getattr(encoder.backbone, "model", encoder.backbone).state_dict())
    block = model.blocks[-1].attn
    block.fused_attn = False
    kept: list[torch.Tensor] = []
    block.attn_drop.register_forward_hook(lambda _, inputs, __: kept.append(inputs[0]))
    normalised = (images.permute(0, 3, 1, 2) - encoder.mean) / encoder.std
    with torch.no_grad():
        tokens = model.eval().forward_features(normalised)
    shares = kept[0][:, :, 0, prefix:].detach().unflatten(2, (4, 4))
    np.testing.assert_allclose(found.attention, shares.numpy(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.tokens, tokens[:, prefix:].unflatten(1, (4, 4)), rtol=1e-4, atol=1e-5)


def test_what_has_no_class_token_is_named() -> None:
    encoder = Encoder(EncoderConfig(name="resnet", width=4), 32).eval()
    with pytest.raises(UserError, match="ResNetEncoder: no ViT with a class token"):
        look(encoder, torch.zeros(1, 32, 32, 3))


def test_colours_tell_what_differs_most_apart() -> None:
    tokens = np.random.default_rng(0).normal(0, 0.01, (5, 4, 4, 12))
    tokens[:, :, :2] += np.eye(12)[0] * 3
    tokens[:, :2] += np.eye(12)[1]
    colours = component_colours(tokens).astype(int)
    assert colours.shape == (5, 4, 4, 3)
    left, right = colours[:, :, :2, 0], colours[:, :, 2:, 0]
    assert abs(left.mean() - right.mean()) > 230
    top, bottom = colours[:, :2, :, 1], colours[:, 2:, :, 1]
    assert abs(top.mean() - bottom.mean()) > 230


def test_masks_hold_the_share_with_the_fewest_patches() -> None:
    attention = np.array([[0.4, 0.3], [0.2, 0.1]])
    assert attention_masks(attention, 0.6).tolist() == [[True, True], [False, False]]
    assert attention_masks(attention, 0.4).tolist() == [[True, False], [False, False]]
    assert attention_masks(5 * attention, 0.95).all()


def test_overlap_enlarges_patches_to_pixels() -> None:
    patches = np.array([[True, False], [False, False]])
    pixels = np.zeros((4, 4), bool)
    pixels[:2, :3] = True
    assert overlap(patches, pixels) == pytest.approx(4 / 6)
    assert overlap(pixels, pixels) == 1
    assert overlap(np.zeros((2, 2), bool), np.zeros((4, 4), bool)) == 1


def test_no_mask_of_patches_overlaps_better_than_the_best() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((3, 6, 6)) < rng.random((3, 1, 1))
    truth[2] = False
    every = ((np.arange(2**9)[:, None] >> np.arange(9)) & 1).astype(bool).reshape(-1, 3, 3)
    found = overlap(every[:, None], truth).max(0)
    assert found[2] == 1
    np.testing.assert_allclose(best_overlap(truth, (3, 3)), found)


def test_the_best_head_is_the_one_that_looks_at_what_is_there() -> None:
    truth = np.zeros((6, 8, 8), bool)
    for t in range(6):
        truth[t, :4, t // 2 * 2 : t // 2 * 2 + 4] = True
    attention = np.random.default_rng(0).random((6, 3, 4, 4))
    attention[:, 1] = truth[:, ::2, ::2] + 1e-6
    found = compare_with_segmentation(attention, truth, share=0.99)
    assert found["head"] == 1
    np.testing.assert_allclose(found["overlap"], 1)
    assert compare_with_segmentation(attention, truth, 0.99, head=0)["overlap"].mean() < 0.5
    assert found["everything"] == pytest.approx(0.25)
    assert (
        found["steadiness"]
        == pytest.approx(found["steadiness_of_truth"])
        == pytest.approx((3 + 2 * 8 / 24) / 5)
    )


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    """scripts/figures/patches.py as a module."""
    folder = Path(__file__).parents[1] / "scripts" / "figures"
    monkeypatch.syspath_prepend(str(folder))
    spec = importlib.util.spec_from_file_location("figure_of_patches", folder / "patches.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def saved_run(folder: Path, recipe: str, *words: str) -> Path:
    """A run as it is before its first step."""
    config = load_config(recipe, [f"run={folder}", *words])
    run = Run.create_or_open(config)
    model = ImageJEPA(config) if config.mode == "images" else WorldModel(config, 2)
    run.save_checkpoint(model, initial_state(model, config.train))
    run.close()
    return folder


VIT = ("model.encoder.name=test_vit", "model.encoder.patch_size=8")


def test_a_picture_of_patches_is_drawn_from_what_is_on_disk(
    script: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "images.local_views=0", "images.global_size=32", "images.data=digits"
    folder = saved_run(tmp_path / "run", "images_smoke", *VIT, *words)
    asked = [str(folder), "--frames", "6", "--episodes", "3"]
    assert script.main(asked) == 0
    table = capsys.readouterr().out
    results = json.loads((folder / "evaluation" / "patches.json").read_text("utf-8"))
    own = results["rows"]["trained"]
    assert np.shape(own["frames"]) == (2, 6)
    assert own["overlap"]["mean"] == pytest.approx(np.mean(own["frames"]))
    # The weights are those before the first step.
    assert own == results["rows"]["untrained"]
    limits = results["limits"]
    assert own["overlap"]["mean"] <= limits["best mask of patches"]["mean"] < 1
    assert 0 < limits["whole frame"]["mean"] < 0.2
    assert 0 < results["steadiness_of_truth"]["mean"] <= 1
    assert f"| {own['overlap']['mean']:.3f} (" in table
    with np.load(folder / "evaluation" / "patches.npz") as file:
        shapes = {name: array.shape for name, array in file.items()}
    assert shapes == {
        "frames": (6, 32, 32, 3),
        "truth": (6, 32, 32),
        "colours": (6, 4, 4, 3),
        "masks": (6, 4, 4),
        "images": (6, 32, 32, 1),
        "image_colours": (6, 4, 4, 3),
        "image_masks": (6, 4, 4),
    }
    assert imread(folder / "evaluation" / "patches.png").std() > 0.05
    film = imageio.imread(folder / "evaluation" / "patches.gif", index=None)
    # Of six frames every second; four pictures of 128 pixels each, with what lies between.
    assert film.shape[0] == 3
    assert film.shape[2] >= 4 * 128
    before = (folder / "evaluation" / "patches.json").stat().st_mtime_ns
    assert script.main(asked) == 0
    assert capsys.readouterr().out == table
    assert (folder / "evaluation" / "patches.json").stat().st_mtime_ns == before


def test_episodes_are_not_those_of_training(script: Any, tmp_path: Path) -> None:
    folder = saved_run(tmp_path / "run", "smoke", *VIT)
    config = script.configured(folder, [], 4)
    assert config.collect.seed == load_config("smoke").collect.seed + 1
    (frames, truth), (others, _) = script.play(config, 2)
    assert frames.shape == (4, 32, 32, 3)
    assert truth.shape == (4, 32, 32)
    assert not np.array_equal(frames, others)


def test_what_has_no_patches_or_no_segmentation_is_named(
    script: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*words: str) -> str:
        with pytest.raises(SystemExit, match="2"):
            script.main([*words, "--frames", "2", "--episodes", "2"])
        return capsys.readouterr().err

    conv = saved_run(tmp_path / "conv", "smoke")
    assert "patches.py: ConvEncoder: no ViT with a class token" in said(str(conv))
    assert f"patches.py: {tmp_path}/nowhere: no run there" in said(f"{tmp_path}/nowhere")
    tiny = saved_run(tmp_path / "vit", "smoke", *VIT)
    own = said(str(tiny), "env.id=counting_env:Counting-v0")
    assert "env.id=counting_env:Counting-v0: has no moving_parts()" in own

"""Patches of a ViT: attention as timm computes it, colours, masks and their overlap."""

import numpy as np
import pytest
import torch

from worldjepa.encoders import Encoder
from worldjepa.errors import UserError
from worldjepa.evaluation.patches import (
    attention_masks,
    compare_with_segmentation,
    component_colours,
    look,
    overlap,
)
from worldjepa.model_config import EncoderConfig
from worldjepa.vit import every_token_read


def vit(**options: int) -> Encoder:
    return Encoder(EncoderConfig(name="test_vit", patch_size=8, **options), 32).eval()


@pytest.mark.parametrize("options", [{}, {"register_tokens": 4}, {"layers": 2}])
def test_attention_and_tokens_are_timms_own(options: dict[str, int]) -> None:
    encoder = vit(**options)
    images = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8)
    found = look(encoder, images)
    model = getattr(encoder.backbone, "model", encoder.backbone)
    block = model.blocks[-1].attn
    block.fused_attn = False
    kept: list[torch.Tensor] = []
    block.attn_drop.register_forward_hook(lambda _, inputs, __: kept.append(inputs[0]))
    normalised = (images.permute(0, 3, 1, 2) - encoder.mean) / encoder.std
    with torch.no_grad(), every_token_read(model):
        tokens = model.forward_features(normalised)
    prefix = 1 + options.get("register_tokens", 0)
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


def test_the_best_head_is_the_one_that_looks_at_what_is_there() -> None:
    truth = np.zeros((6, 8, 8), bool)
    for t in range(6):
        truth[t, :4, t // 2 * 2 : t // 2 * 2 + 4] = True
    attention = np.random.default_rng(0).random((6, 3, 4, 4))
    attention[:, 1] = truth[:, ::2, ::2] + 1e-6
    found = compare_with_segmentation(attention, truth, share=0.99)
    assert found["head"] == 1
    np.testing.assert_allclose(found["overlap"], 1)
    assert found["everything"] == pytest.approx(0.25)
    assert (
        found["steadiness"]
        == pytest.approx(found["steadiness_of_truth"])
        == pytest.approx((3 + 2 * 8 / 24) / 5)
    )

"""Multi-crop views: each sample's own, equal to torchvision's one by one, and fixed by (seed, step)."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as reference
from torch import Tensor

from worldjepa.config import ImagesConfig
from worldjepa.data.images import from_arrays
from worldjepa.data.views import (
    LUMA,
    MultiCrop,
    blur,
    draw_boxes,
    draw_colours,
    hue_and_saturation,
    recolour,
    resample,
    resampling,
)

PLAIN = {"flip": 0.0, "jitter": 0.0, "grayscale": 0.0, "blur": 0.0, "solarize": 0.0}
CPU = torch.device("cpu")


def pictures(count: int = 6, height: int = 40, width: int = 32, channels: int = 3) -> Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 256, (count, height, width, channels), dtype=np.uint8))


def config(**changes: float) -> ImagesConfig:
    return ImagesConfig(**{"global_size": 16, "local_size": 8, "local_views": 3, **changes})


def views(pixels: Tensor, options: ImagesConfig, step: int = 0) -> dict[str, Tensor]:
    return MultiCrop(from_arrays("these", pixels.numpy()), options, CPU).views(
        pixels, np.random.default_rng((0, step))
    )


@pytest.mark.parametrize("size", [5, 16, 50])
def test_a_crop_is_torchvisions_of_that_sample(size: int) -> None:
    rng = np.random.default_rng(1)
    images = pictures().permute(0, 3, 1, 2).float()
    top, left, height, width = (
        rng.integers(low, high, 6) for low, high in ((0, 20), (0, 16), (3, 21), (3, 17))
    )
    flip = np.arange(6) % 2 == 0
    rows = resampling(top.astype(float), height.astype(float), 40, size)
    columns = resampling(left.astype(float), width.astype(float), 32, size, flip)
    cropped = resample(images, rows[None], columns[None])[0]
    for i, image in enumerate(images):
        box = int(top[i]), int(left[i]), int(height[i]), int(width[i])
        expected = reference.resized_crop(image, *box, [size, size], antialias=True)
        expected = reference.horizontal_flip(expected) if flip[i] else expected
        torch.testing.assert_close(cropped[i], expected, rtol=0, atol=2e-3)


def test_a_blur_is_torchvisions_but_at_the_edge() -> None:
    image = pictures(1, 40, 40).permute(0, 3, 1, 2).float()
    whole = np.zeros(1), np.full(1, 40.0), 40, 40
    blurred = resampling(*whole)
    blur([blurred], np.array([1.5]))
    mine = resample(image, blurred[None], blurred[None])[0, 0]
    theirs = reference.gaussian_blur(image[0], [21, 21], [1.5, 1.5])
    torch.testing.assert_close(mine[:, 10:-10, 10:-10], theirs[:, 10:-10, 10:-10], rtol=0, atol=2e-2)
    torch.testing.assert_close(blurred.sum(-1), torch.ones(1, 40))


def test_every_row_of_any_crop_weighs_one_and_stays_within_it() -> None:
    boxes = draw_boxes(np.random.default_rng(0), 500, 30, 20, (0.01, 1.0))
    weight = resampling(boxes[:, 0], boxes[:, 2], 30, 12)
    torch.testing.assert_close(weight.sum(-1), torch.ones(500, 12))
    assert (weight >= 0).all()
    first, last = np.floor(boxes[:, 0]), np.ceil(boxes[:, 0] + boxes[:, 2])
    pixel = np.arange(30)
    outside = (pixel < first[:, None]) | (pixel >= last[:, None])
    assert (weight.amax(1).numpy()[outside] == 0).all()


def test_boxes_have_the_area_and_ratio_that_was_asked_for() -> None:
    boxes = draw_boxes(np.random.default_rng(0), 4000, 60, 60, (0.2, 0.5))
    top, left, height, width = boxes.T
    area, ratio = height * width / 3600, width / height
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= 60).all()
    assert (left + width <= 60).all()
    assert 0.2 <= area.min() < 0.21
    assert 0.49 < area.max() <= 0.5
    assert area.mean() == pytest.approx(0.35, abs=0.01)
    assert ratio.min() == pytest.approx(3 / 4, abs=0.01)
    assert ratio.max() == pytest.approx(4 / 3, abs=0.01)
    assert np.log(ratio).mean() == pytest.approx(0, abs=0.02)


def test_where_no_box_fits_the_whole_image_serves() -> None:
    boxes = draw_boxes(np.random.default_rng(0), 50, 10, 400, (1.0, 1.0))
    np.testing.assert_array_equal(boxes, np.tile([0.0, 0.0, 10.0, 400.0], (50, 1)))


def test_views_have_their_shapes_and_range() -> None:
    found = views(pictures(), config())
    assert {name: tuple(v.shape) for name, v in found.items()} == {
        "global": (2, 6, 16, 16, 3), "local": (3, 6, 8, 8, 3)
    }  # fmt: skip
    for value in found.values():
        assert value.dtype == torch.float32
        assert 0 <= value.min() < value.max() <= 255
    assert set(views(pictures(), config(local_views=0))) == {"global"}
    assert views(pictures(channels=1), config())["local"].shape == (3, 6, 8, 8, 1)


def test_each_sample_and_each_view_is_drawn_for_itself() -> None:
    same = pictures(1).expand(6, -1, -1, -1)
    found = views(same, config(**PLAIN))
    for value in found.values():
        flat = value.flatten(0, 1).flatten(1)
        assert (torch.cdist(flat, flat) > 1).sum() == len(flat) * (len(flat) - 1)


def test_a_view_shows_its_own_image() -> None:
    levels = torch.arange(6, dtype=torch.uint8).mul(40)[:, None, None, None].expand(-1, 20, 20, 3)
    for value in views(levels, config(**PLAIN)).values():
        expected = levels[None, :, :1, :1].float().expand(value.shape)
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-2)


@pytest.mark.parametrize(("name", "expected"), [("flip", 0.5), ("solarize", 0.3), ("grayscale", 0.3)])
def test_a_change_has_its_probability(name: str, expected: float) -> None:
    ramp = torch.linspace(0, 120, 20)[None, None, :, None] + torch.tensor([0.0, 50.0, 130.0])
    ramp = ramp.expand(1500, 20, 20, 3).to(torch.uint8)
    whole = {"global_scale_min": 1.0, "local_views": 0, "global_size": 20, "global_views": 1}
    found = views(ramp, config(**{**PLAIN, name: expected}, **whole))["global"][0]
    as_was = {
        "flip": found[:, 0, 0, 0] < found[:, 0, -1, 0],
        "solarize": found[:, 0, -1, 2] > 128,
        "grayscale": found[:, 0, 0, 2] - found[:, 0, 0, 0] > 20,
    }[name]
    assert 1 - as_was.double().mean() == pytest.approx(expected, abs=0.05)


def test_colours_agree_with_torchvision() -> None:
    images = (pictures().permute(0, 3, 1, 2).float() / 4 + 90).contiguous()
    saturation, brightness, contrast = 0.7, 1.1, 0.8
    matrix = brightness * hue_and_saturation(np.zeros(6), np.full(6, saturation))
    mine = recolour(images, torch.from_numpy(matrix).float(), torch.full((6,), contrast))
    for i, image in enumerate(images / 255):
        expected = reference.adjust_saturation(reference.adjust_brightness(image, brightness), saturation)
        expected = reference.adjust_contrast(expected, contrast)
        torch.testing.assert_close(mine[i] / 255, expected, rtol=0, atol=2e-3)


def test_a_turned_hue_keeps_luma_and_comes_round() -> None:
    luma = np.array(LUMA)
    matrix = hue_and_saturation(np.array([0.3, 1.0, 0.5]), np.array([1.0, 1.0, 0.0]))
    np.testing.assert_allclose(luma @ matrix, np.tile(luma, (3, 1)), atol=1e-9)
    np.testing.assert_allclose(matrix[1], np.eye(3), atol=1e-9)
    np.testing.assert_allclose(matrix[2], np.tile(luma, (3, 1)), atol=1e-9)
    assert np.abs(matrix[0] - np.eye(3)).max() > 0.5


def test_a_grey_image_keeps_one_channel_of_what_a_coloured_one_gets() -> None:
    grey = pictures(channels=1)
    changes = {"grayscale": 0.0, "saturation": 0.0, "hue": 0.0}
    one, three = (views(p, config(**changes)) for p in (grey, grey.expand(-1, -1, -1, 3)))
    for name, value in one.items():
        torch.testing.assert_close(value.expand(-1, -1, -1, -1, 3), three[name], rtol=0, atol=2e-2)


def test_colours_are_left_alone_where_none_is_drawn() -> None:
    matrix, contrast = draw_colours(np.random.default_rng(0), 5, config(**PLAIN))
    torch.testing.assert_close(matrix, torch.eye(3).expand(5, 3, 3))
    assert (contrast == 1).all()


def batches(seed: int, first: int) -> Iterator[dict[str, Tensor]]:
    data = MultiCrop(from_arrays("these", pictures(20).numpy()), config(), CPU)
    return itertools.islice(data.batches(6, seed, first), 8 - first)


@pytest.mark.parametrize("first", [1, 3, 7])
def test_from_any_step_on_the_batches_are_those_of_an_undisturbed_run(first: int) -> None:
    whole = list(batches(0, 0))
    for expected, found in zip(whole[first:], batches(0, first), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert not torch.equal(whole[0]["global"], whole[1]["global"])
    assert not torch.equal(whole[0]["global"], next(batches(1, 0))["global"])


@pytest.mark.parametrize("ranks", [2, 3])
def test_a_rank_sees_its_images_with_the_views_that_they_have_in_the_whole_batch(ranks: int) -> None:
    data = MultiCrop(from_arrays("these", pictures(20).numpy()), config(), CPU)
    parts = [data.batches(6, 0, 2, (rank, ranks)) for rank in range(ranks)]
    for expected in batches(0, 2):
        shares = [next(part) for part in parts]
        for name, value in expected.items():
            axis = 1 if name in ("global", "local") else 0
            torch.testing.assert_close(torch.cat([s[name] for s in shares], axis), value, msg=name)

"""Multi-crop views of images, drawn for each sample and computed for a whole batch on its device.

Crop, flip and blur are linear in the rows and in the columns of an image, so each is a matrix for either
axis and all of them together two batched products; brightness, saturation, hue and grey are linear in the
channels, one matrix more. The draws are made on the CPU from (seed, step) alone: every device, and a run
that was stopped, gets the same ones.
"""

import math
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..config import ImagesConfig
from .order import WHOLE, Part, rows

RATIOS = (3 / 4, 4 / 3)
SIGMAS = (0.1, 2.0)
# ITU-R 601 luma, as torchvision and PIL take it.
LUMA = (0.299, 0.587, 0.114)
ATTEMPTS = 10


class Pictures(Protocol):
    """Data: endless batches of images, "pixels" (B, H, W, C) uint8."""

    def batches(
        self, batch_size: int, seed: int, first: int = 0, part: Part = WHOLE
    ) -> Iterator[dict[str, Tensor]]: ...


class MultiCrop:
    """Images with their views: what the trainer takes as data.

    Args:
        images: gives the batches.
        config: how many views, of which size, and how they are drawn.
        device: where views are computed.
    """

    def __init__(self, images: Pictures, config: ImagesConfig, device: torch.device):
        self.images, self.config, self.device = images, config, device

    def batches(
        self, batch_size: int, seed: int, first: int = 0, part: Part = WHOLE
    ) -> Iterator[dict[str, Tensor]]:
        """The batches of the images from number `first` on, each with its `views`; of each the r-th of W
        parts, for `part` (r, W), with the views that it has in the whole batch."""
        for step, batch in enumerate(self.images.batches(batch_size, seed, first, part), first):
            pixels = batch["pixels"].to(self.device, non_blocking=True)
            rng = np.random.default_rng((seed, step))
            yield {**batch, "pixels": pixels, **self.views(pixels, rng, batch_size, part)}

    def views(
        self, pixels: Tensor, rng: np.random.Generator, batch_size: int | None = None, part: Part = WHOLE
    ) -> dict[str, Tensor]:
        """Images (B, H, W, C) uint8, C 1 or 3, to "global" (V, B, h, w, C) and, where there are any, "local"
        views, float32 from 0 to 255.

        Args:
            rng: draws for every image of the whole batch.
            batch_size: of the whole batch; None: B. part: which of it the images are.
        """
        c, whole = self.config, batch_size or len(pixels)
        kinds = [("global", c.global_views, c.global_size, (c.global_scale_min, c.global_scale_max))]
        if c.local_views:
            kinds.append(("local", c.local_views, c.local_size, (c.local_scale_min, c.local_scale_max)))
        drawn = {}
        for name, views, size, scale in kinds:
            mine = np.arange(views * whole).reshape(views, whole)[:, rows(whole, part)]
            drawn[name] = self._draw(pixels, rng, views * whole, mine, size, scale)
        return drawn

    def _draw(
        self,
        pixels: Tensor,
        rng: np.random.Generator,
        count: int,
        mine: np.ndarray,
        size: int,
        scale: tuple[float, float],
    ) -> Tensor:
        """Of `count` samples drawn, those of numbers `mine` (V, B)."""
        c, (_, height, width, channels), shape = self.config, pixels.shape, mine.shape
        mine = mine.ravel()
        boxes = draw_boxes(rng, count, height, width, scale)[mine]
        flip = (rng.random(count) < c.flip)[mine]
        sigma = np.where(rng.random(count) < c.blur, rng.uniform(*SIGMAS, count), 0.0)[mine]
        tall = resampling(boxes[:, 0], boxes[:, 2], height, size, device=self.device)
        wide = resampling(boxes[:, 1], boxes[:, 3], width, size, flip, self.device)
        blur([tall, wide], sigma)
        images = pixels.permute(0, 3, 1, 2).float()
        crops = resample(images, tall.unflatten(0, shape), wide.unflatten(0, shape))
        matrix, contrast = (value[mine] for value in draw_colours(rng, count, c, self.device))
        crops = recolour(crops.flatten(0, 1), matrix, contrast)
        solarised = torch.from_numpy((rng.random(count) < c.solarize)[mine]).to(self.device)
        crops = torch.where(solarised[:, None, None, None] & (crops >= 128), 255 - crops, crops)
        return crops.view(*shape, channels, size, size).permute(0, 1, 3, 4, 2)


def draw_boxes(
    rng: np.random.Generator, count: int, height: int, width: int, scale: tuple[float, float]
) -> np.ndarray:
    """Boxes for random resized crops, one for each sample: (count, 4), top, left, height, width in pixels,
    not rounded. Area (a share from `scale`) and ratio of the sides (log-uniform in [3/4, 4/3]) are drawn
    until they fit, at most 10 times, after which the whole image serves.
    """
    area = height * width * rng.uniform(*scale, (count, ATTEMPTS))
    ratio = np.exp(rng.uniform(math.log(RATIOS[0]), math.log(RATIOS[1]), (count, ATTEMPTS)))
    heights, widths = np.sqrt(area / ratio), np.sqrt(area * ratio)
    fits = (heights <= height) & (widths <= width)
    first = np.arange(count), fits.argmax(1)
    found = fits.any(1)
    h = np.where(found, heights[first], height)
    w = np.where(found, widths[first], width)
    return np.stack([rng.random(count) * (height - h), rng.random(count) * (width - w), h, w], 1)


def resampling(
    start: np.ndarray,
    length: np.ndarray,
    size_in: int,
    size_out: int,
    flip: np.ndarray | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Matrices that cut a stretch out of an axis, resize it bilinearly and flip it. Where the stretch
    shrinks, the filter is widened, as torchvision does by default.

    Args:
        start, length: (N,) the stretch, pixels. size_in, size_out: of the axis before and after.
        flip: (N,) bool.

    Returns:
        (N, size_out, size_in) float32; every row sums to 1. Nothing outside the stretch's pixels counts.
    """
    begin, extent = (torch.from_numpy(v).float().to(device)[:, None, None] for v in (start, length))
    step = extent / size_out
    centre = (torch.arange(size_out, device=device)[:, None] + 0.5) * step + begin
    pixel = torch.arange(size_in, device=device) + 0.5
    first, last = begin.floor() + 0.5, (begin + extent).ceil() - 0.5
    weight = (1 - (centre - pixel).abs() / step.clamp_min(1.0)).clamp_min(0)
    weight = weight * ((pixel >= first) & (pixel <= last))
    weight = weight / weight.sum(-1, keepdim=True)
    if flip is not None:
        flipped = torch.from_numpy(flip).to(device)[:, None, None]
        weight = torch.where(flipped, weight.flip(1), weight)
    return weight


def blur(matrices: list[Tensor], sigma: np.ndarray) -> None:
    """A Gaussian blur after matrices (N, size, n) of either axis, in place; at the ends its kernel is cut and
    rescaled. It is the same whether it comes before a flip or after it.

    Args:
        sigma: (N,) its standard deviation in pixels of the result; 0: none.
    """
    size, device = matrices[0].shape[1], matrices[0].device
    which = torch.from_numpy(np.flatnonzero(sigma)).to(device)
    place = torch.arange(size, device=device)
    variance = torch.from_numpy(sigma).float().to(device)[which].square()[:, None, None]
    weight = torch.exp((place[:, None] - place).square() / (-2 * variance))
    weight = weight / weight.sum(-1, keepdim=True)
    for matrix in matrices:
        matrix[which] = weight @ matrix[which]


def resample(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Images (B, C, H, W) through matrices (V, B, h, H) and (V, B, w, W) to (V, B, C, h, w)."""
    (views, batch, h, _), w = rows.shape, columns.shape[2]
    # Wide images lose most in the first product, where all views and channels share the image.
    tall = rows.transpose(0, 1).flatten(1, 2) @ images.transpose(1, 2).flatten(2)
    # Its rows are of (view, h, channel): a view's channels share its matrix, and nothing is copied.
    lines = tall.view(batch, views, -1, columns.shape[3]) @ columns.transpose(0, 1).mT
    return lines.view(batch, views, h, -1, w).permute(1, 0, 3, 2, 4)


def draw_colours(
    rng: np.random.Generator, count: int, config: ImagesConfig, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """What happens to the colours of each sample: a matrix of the channels (count, 3, 3), and the factor of
    the contrast (count,). Brightness and contrast multiply by 1 ± their option at most, then saturation, hue
    and grey; the order is fixed."""
    jittered = rng.random(count) < config.jitter

    def factor(strength: float) -> np.ndarray:
        return np.where(jittered, rng.uniform(max(0.0, 1 - strength), 1 + strength, count), 1.0)

    brightness, contrast, saturation = (
        factor(s) for s in (config.brightness, config.contrast, config.saturation)
    )
    turn = np.where(jittered, rng.uniform(-config.hue, config.hue, count), 0.0)
    saturation = np.where(rng.random(count) < config.grayscale, 0.0, saturation)
    matrix = brightness[:, None, None] * hue_and_saturation(turn, saturation)
    return tuple(torch.from_numpy(v).float().to(device) for v in (matrix, contrast))  # type: ignore[return-value]


def hue_and_saturation(turn: np.ndarray, saturation: np.ndarray) -> np.ndarray:
    """Matrices (N, 3, 3) on RGB that turn the hue by so many full turns and multiply the saturation, (N,)
    each: rotation and scaling of the plane of chroma at constant luma (YIQ). torchvision turns the hue in
    HSV, which is not linear; for hues without turn the two agree.
    """
    yiq = np.array([LUMA, (0.595716, -0.274453, -0.321263), (0.211456, -0.522591, 0.311135)])
    angle = 2 * math.pi * turn
    chroma = np.zeros((len(turn), 3, 3))
    chroma[:, 0, 0] = 1
    chroma[:, 1, 1] = chroma[:, 2, 2] = saturation * np.cos(angle)
    chroma[:, 1, 2] = -saturation * np.sin(angle)
    chroma[:, 2, 1] = saturation * np.sin(angle)
    return np.linalg.inv(yiq) @ chroma @ yiq


def recolour(images: Tensor, matrix: Tensor, contrast: Tensor) -> Tensor:
    """Images (N, C, H, W) from 0 to 255 with their channels mixed by (N, 3, 3) and the contrast, distance
    from the mean luma, multiplied by (N,); clipped. Of a grey image, one channel, the brightness alone
    changes."""
    count = len(images)
    if images.shape[1] == 1:
        mixed = images * matrix[:, 0].sum(-1)[:, None, None, None]
        mean = mixed.mean((1, 2, 3), keepdim=True)
    else:
        mixed = torch.bmm(matrix, images.flatten(2)).view_as(images)
        luma = torch.tensor(LUMA, device=images.device)
        mean = (mixed.mean((2, 3)) @ luma).view(count, 1, 1, 1)
    factor = contrast[:, None, None, None]
    return torch.addcmul(mean * (1 - factor), mixed, factor).clamp_(0, 255)

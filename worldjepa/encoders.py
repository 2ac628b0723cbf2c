"""Frames to features, and features to latents: the small conv encoder, timm's backbones, the projector."""

import difflib
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from .config import EncoderConfig
from .errors import UserError

# ImageNet's channel statistics, which timm's models and LeWM use.
PIXEL_MEAN = (0.485, 0.456, 0.406)
PIXEL_STD = (0.229, 0.224, 0.225)


class ConvEncoder(nn.Module):
    """Four stages that halve the frame and double the channels, then one linear map of the whole grid.

    No pooling: where something is matters more than what it is. No bias before BatchNorm: its gradient is
    zero but for rounding, which Adam would turn into steps.

    Args:
        image_size: of a frame, a multiple of 16.
        width: channels of the first stage.
        features: outputs.

    Raises:
        UserError: image_size is not a multiple of 16.
    """

    def __init__(self, image_size: int, width: int, features: int):
        super().__init__()
        if image_size % 16:
            raise UserError(f"env.image_size={image_size}: the conv encoder needs a multiple of 16")
        channels = [3, width, 2 * width, 4 * width, 8 * width]
        self.stages = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(c_in, c_out, 4 if index == 0 else 3, stride=2, padding=1, bias=False),
                    nn.BatchNorm2d(c_out),
                    nn.ReLU(inplace=True),
                )
                for index, (c_in, c_out) in enumerate(pairwise(channels))
            )
        )
        self.head = nn.Linear(channels[-1] * (image_size // 16) ** 2, features)
        self.num_features = features

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) normalised frames to features (B, num_features)."""
        return self.head(self.stages(x).flatten(1))


def build_encoder(config: EncoderConfig, image_size: int) -> nn.Module:
    """The encoder that a configuration names: (B, 3, H, W) to (B, num_features).

    Raises:
        UserError: the name is unknown, or the model does not take such frames.
    """
    if config.name == "conv":
        return ConvEncoder(image_size, config.width, config.features)
    return _build_timm(config, image_size)


def _build_timm(config: EncoderConfig, image_size: int) -> nn.Module:
    # Importing timm takes longer than importing torch: only who names one of its models waits for it.
    import timm
    from timm.layers import to_2tuple

    if not timm.is_model(config.name):
        close = difflib.get_close_matches(config.name, timm.list_models(), 3)
        hint = f"; timm has {', '.join(close)}" if close else ""
        raise UserError(f"model.encoder.name={config.name}: neither conv nor a timm model{hint}")
    try:
        model = _create(timm.create_model, config, image_size)
        with torch.no_grad():
            features = model.eval()(torch.zeros(1, 3, image_size, image_size)).shape
        model.train()
    except (RuntimeError, ValueError, AssertionError, TypeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"env.image_size={image_size}: {config.name} does not take it ({reason[:120]})"
        ) from None
    if len(features) != 2:
        raise UserError(
            f"model.encoder.name={config.name}: gives features {tuple(features)}, not one vector a frame"
        )
    patch = to_2tuple(getattr(getattr(model, "patch_embed", None), "patch_size", 1))[0]
    if image_size % patch:
        # timm would leave out the rows and columns that fill no patch.
        raise UserError(
            f"env.image_size={image_size}: {config.name} needs a multiple of its patch size, {patch}"
        )
    model.num_features = features[1]
    return model


def _create(create: Callable[..., nn.Module], config: EncoderConfig, image_size: int) -> nn.Module:
    options: dict[str, Any] = {"patch_size": config.patch_size} if config.patch_size else {}
    try:
        # Families with positions (ViT, Swin, ...) take the frame's size when they are built.
        return create(config.name, num_classes=0, img_size=image_size, **options)
    except TypeError:
        # The others take frames of any size, and no such argument.
        return create(config.name, num_classes=0, **options)


class Encoder(nn.Module):
    """uint8 frames to features: normalisation, then the backbone."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: EncoderConfig, image_size: int):
        super().__init__()
        self.backbone = build_encoder(config, image_size)
        self.num_features: int = self.backbone.num_features  # type: ignore[assignment]
        self.register_buffer("mean", 255 * torch.tensor(PIXEL_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(PIXEL_STD).view(3, 1, 1), persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        """(B, H, W, 3) uint8 to features (B, num_features)."""
        # As stored, frames are channels-last; permuting keeps them so, which is what convolutions like best.
        return self.backbone((frames.permute(0, 3, 1, 2) - self.mean) / self.std)


def projector(width_in: int, hidden: int, width_out: int) -> nn.Sequential:
    """LeWM's MLP with BatchNorm, (N, width_in) to (N, width_out): the last layer is linear, so that SIGReg is
    free to shape its output, which a LayerNorm at the end of a ViT would forbid."""
    return nn.Sequential(
        nn.Linear(width_in, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.GELU(),
        nn.Linear(hidden, width_out),
    )

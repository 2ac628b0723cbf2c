"""Frames to features, and features to latents: the small conv encoder, timm's backbones, the projector."""

import contextlib
import difflib
import inspect
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from .config import TrainConfig
from .errors import UserError
from .linear import Linear, fuse_attention, through_onednn
from .model_config import EncoderConfig
from .recomputation import recompute_blocks, recomputed
from .resnet import ResNetEncoder

# ImageNet's channel statistics, which timm's models and LeWM use.
PIXEL_MEAN = (0.485, 0.456, 0.406)
PIXEL_STD = (0.229, 0.224, 0.225)


class ConvEncoder(nn.Module):
    """Four stages that halve the frame and double the channels, then one linear map of the whole grid.

    No pooling: where something is matters more than what it is. No bias before BatchNorm, the projector's
    among them: its gradient is zero but for rounding, which Adam would turn into steps.

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
        self.head = Linear(channels[-1] * (image_size // 16) ** 2, features, bias=False)
        self.num_features = features

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) normalised frames to features (B, num_features)."""
        return self.head(self.stages(x).flatten(1))


def build_encoder(config: EncoderConfig, image_size: int, sizes: dict[str, int] | None = None) -> nn.Module:
    """The encoder that a configuration names: (B, 3, H, W) to (B, num_features).

    Args:
        image_size: height and width of the frames.
        sizes: all those that it has to take, `image_size` first, by the options that set them; by default
            `image_size` alone, as env.image_size.

    Raises:
        UserError: the name is unknown, or the model does not take such frames.
    """
    sizes = sizes or {"env.image_size": image_size}
    if config.name == "conv":
        return ConvEncoder(image_size, config.width, config.features)
    if config.name == "resnet":
        for option, size in sizes.items():
            # oneDNN (torch 2.14) gives garbage as bfloat16 gradient of a strided convolution of one pixel.
            if size < ResNetEncoder.smallest:
                raise UserError(f"{option}={size}: resnet needs at least {ResNetEncoder.smallest}")
        if config.layers > ResNetEncoder.depth:
            raise UserError(f"model.encoder.layers={config.layers}: resnet has {ResNetEncoder.depth} blocks")
        return ResNetEncoder(config.width, config.layers, config.pooling == "mean_std")
    return _build_timm(config, sizes)


def _build_timm(config: EncoderConfig, sizes: dict[str, int]) -> nn.Module:
    # Importing timm takes longer than importing torch: only who names one of its models waits for it.
    import timm
    from timm.layers import to_2tuple

    from .vit import read_class_token_alone

    if not timm.is_model(config.name):
        close = difflib.get_close_matches(config.name, timm.list_models(), 3)
        hint = f"; timm has {', '.join(close)}" if close else ""
        raise UserError(f"model.encoder.name={config.name}: neither conv, resnet nor a timm model{hint}")
    option, size = next(iter(sizes.items()))
    try:
        model = _create(timm.create_model, config, list(sizes.values())).eval()
        for option, size in sizes.items():  # noqa: B007 - the message names the last
            with torch.no_grad():
                features = model(torch.zeros(1, 3, size, size)).shape
        model.train()
    except (RuntimeError, ValueError, AssertionError, TypeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{option}={size}: {config.name} does not take it ({reason[:120]})") from None
    if len(features) != 2:
        raise UserError(
            f"model.encoder.name={config.name}: gives features {tuple(features)}, not one vector a frame"
        )
    patch = to_2tuple(getattr(getattr(model, "patch_embed", None), "patch_size", 1))[0]
    for option, size in sizes.items():
        if size % patch:
            # timm would leave out the rows and columns that fill no patch.
            raise UserError(f"{option}={size}: {config.name} needs a multiple of its patch size, {patch}")
    if config.norm_eps:
        for module in model.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = config.norm_eps
    model.num_features = features[1]
    _still_what_nothing_moves(model)
    through_onednn(model)
    if config.layers > 1:
        return ClassTokens(model, config)
    read_class_token_alone(model)
    return model


def _still_what_nothing_moves(model: nn.Module) -> None:
    """Leave where they are the biases whose gradient is zero but for rounding, which Adam would turn into
    steps: that of the last norm, which the projector's BatchNorm takes off, and the keys' in attention, which
    softmax does."""
    for name in ("norm", "fc_norm", "head.norm"):
        with contextlib.suppress(AttributeError):
            norm = model.get_submodule(name)
            if isinstance(getattr(norm, "bias", None), nn.Parameter):
                norm.bias.requires_grad_(False)
    for name, module in model.named_modules():
        if name.endswith("qkv") and isinstance(module, nn.Linear) and module.bias is not None:
            module.bias.register_hook(_without_keys)


def _without_keys(gradient: Tensor) -> Tensor:
    """Of a bias of queries, keys and values, (3·n,)."""
    query, key, value = gradient.chunk(3)
    return torch.cat([query, torch.zeros_like(key), value])


def _create(create: Callable[..., nn.Module], config: EncoderConfig, sizes: list[int]) -> nn.Module:
    given = {"patch_size": config.patch_size, "reg_tokens": config.register_tokens}
    options: dict[str, Any] = {name: value for name, value in given.items() if value}
    # Families with positions (ViT, Swin, ...) take the frame's size when they are built, and some of them
    # others beside it; the rest takes frames of any size, and no such argument.
    attempts: list[dict[str, Any]] = [{"img_size": sizes[0]}, {}]
    if len(sizes) > 1:
        attempts.insert(0, {"img_size": sizes[0], "dynamic_img_size": True})
    for attempt in attempts[:-1]:
        with contextlib.suppress(TypeError):
            return create(config.name, num_classes=0, **attempt, **options)
    return create(config.name, num_classes=0, **attempts[-1], **options)


class ClassTokens(nn.Module):
    """A timm ViT whose features are the class tokens of its last layers side by side, each through the final
    norm, the last one's first: what LeJEPA probes (arXiv 2511.08544, Experiment Details 1).

    Raises:
        UserError: the model has no class token, does not give it of each layer, or has fewer layers.
    """

    def __init__(self, model: nn.Module, config: EncoderConfig):
        super().__init__()
        said = f"model.encoder.layers={config.layers}: {config.name}"
        if getattr(model, "cls_token", None) is None or not hasattr(model, "forward_intermediates"):
            raise UserError(f"{said} has no class token")
        takes = inspect.signature(model.forward_intermediates).parameters  # type: ignore[arg-type]
        if "return_prefix_tokens" not in takes:
            raise UserError(f"{said} does not give the class token of each layer; it serves with 1")
        depth = len(model.blocks)  # type: ignore[arg-type]
        if config.layers > depth:
            raise UserError(f"{said} has {depth}")
        self.model, self.layers = model, config.layers
        self.num_last: int = model.embed_dim  # type: ignore[assignment]
        self.num_features = config.layers * self.num_last

    def forward(self, x: Tensor, last: bool = False) -> Tensor:
        """(B, 3, H, W) to (B, layers · width), or to the `last` layer's alone, (B, width)."""
        layers = 1 if last else self.layers
        outputs = self.model.forward_intermediates(  # type: ignore[operator]
            x, indices=layers, return_prefix_tokens=True, norm=True, intermediates_only=True
        )
        return torch.cat([tokens[:, 0] for _, tokens in reversed(outputs)], 1)


class Encoder(nn.Module):
    """Frames to features: normalisation, then the backbone. Arguments as of `build_encoder`.

    Attributes:
        num_features: F of all features. num_last: of them, those of the last layer, the first ones.
        parts: in training, a batch goes through in so many parts, one after the other, of which nothing is
            kept but the features: the backward computes each again. Gradients are those of the whole batch,
            but that BatchNorm within a backbone sees a part; the memory is that of one part.
        layout: what frames are brought to, channels-last or contiguous (`device.lay_out`).
    """

    mean: Tensor
    std: Tensor
    parts: int = 1
    layout: torch.memory_format = torch.channels_last

    def __init__(self, config: EncoderConfig, image_size: int, sizes: dict[str, int] | None = None):
        super().__init__()
        self.backbone = build_encoder(config, image_size, sizes)
        self.num_features: int = self.backbone.num_features  # type: ignore[assignment]
        self.num_last: int = getattr(self.backbone, "num_last", self.num_features)
        self.register_buffer("mean", 255 * torch.tensor(PIXEL_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(PIXEL_STD).view(3, 1, 1), persistent=False)

    def spare_memory(self, config: TrainConfig) -> None:
        """As `accumulate` and `recompute` say; gradients stay the same."""
        self.parts = config.accumulate
        if config.recompute:
            recompute_blocks(self.backbone)

    def forward(self, frames: Tensor, last: bool = False) -> Tensor:
        """(B, H, W, 3), or (B, H, W, 1) where grey, from 0 to 255, uint8 or floating, to features
        (B, num_features); or to the `last` layer's alone, (B, num_last), without what the others cost."""
        if self.parts == 1 or not self.training:
            return self._features(frames, last)
        parts = frames.tensor_split(self.parts)
        return torch.cat([recomputed(self._features, self.backbone, part, last) for part in parts])

    def normalise(self, frames: Tensor) -> Tensor:
        """(B, H, W, 3 or 1) from 0 to 255 to (B, 3, H, W), less the mean and over the deviation of ImageNet's
        channels."""
        batch, height, width, _ = frames.shape
        # By rows of pixels and channels together: over three channels at a time it takes five times as long.
        rows = frames.expand(-1, -1, -1, 3).reshape(batch, height, 3 * width).to(self.mean.dtype)
        mean, std = (value.flatten().repeat(width) for value in (self.mean, self.std))
        return (rows - mean).div_(std).view(batch, height, width, 3).permute(0, 3, 1, 2)

    def _features(self, frames: Tensor, last: bool) -> Tensor:
        # In half precision on a CPU torch's fused attention takes three times as long as doing it in steps.
        fuse_attention(self.backbone, not (frames.device.type == "cpu" and torch.is_autocast_enabled("cpu")))
        x = self.normalise(frames).contiguous(memory_format=self.layout)
        return self.backbone(x, last) if self.num_last < self.num_features else self.backbone(x)


def projector(width_in: int, hidden: int, width_out: int) -> nn.Sequential:
    """LeWM's MLP with BatchNorm, (N, width_in) to (N, width_out): the last layer is linear, so that SIGReg is
    free to shape its output, which a LayerNorm at the end of a ViT would forbid."""
    return nn.Sequential(
        Linear(width_in, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.GELU(),
        Linear(hidden, width_out),
    )

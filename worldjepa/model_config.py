"""The options of a model: encoder, predictor, SIGReg, the objective and its rivals."""

from dataclasses import dataclass, field
from typing import Any


def option(default: Any, meaning: str) -> Any:
    """A dataclass field with the sentence that `--help` prints for it."""
    return field(default=default, metadata={"meaning": meaning})


@dataclass
class EncoderConfig:
    name: str = option(
        "conv", "conv (small, one image size), resnet (small, any image size), or any timm model's name"
    )
    width: int = option(16, "conv, resnet: channels of the first of four stages; each doubles them")
    features: int = option(128, "conv: outputs; a timm model has its own number")
    patch_size: int = option(0, "timm ViT: side of a patch, pixels; 0: the model's own")
    norm_eps: float = option(0.0, "timm ViT: ε of its LayerNorms; 0: the model's own")
    layers: int = option(
        1,
        "features are those of so many last layers side by side: resnet's blocks, a timm ViT's class tokens; "
        "of images the loss sees the last one's alone",
    )
    pooling: str = option(
        "mean", "resnet: features are a layer's means over positions, or those and its deviations, mean_std"
    )
    register_tokens: int = option(0, "timm ViT: tokens beside the patches for what is of none (2309.16588)")
    init: str = option("", "a run folder whose encoder the weights are taken from before the first step")


@dataclass
class PredictorConfig:
    depth: int = option(2, "transformer blocks")
    width: int = option(128, "token width")
    heads: int = option(4, "attention heads")
    head_width: int = option(32, "width of one head")
    mlp_width: int = option(512, "hidden units of a block's MLP")
    positions: str = option(
        "relative", "relative (a rollout computes no token twice), or learnt (LeWM's, one for each place)"
    )
    inner_norms: bool = option(
        False, "attention and MLP begin with one more LayerNorm, with weights (LeWM's released code)"
    )
    action_hidden: int = option(0, "hidden units of the action encoder; 0: width")
    dropout: float = option(0.1, "dropout in attention and MLP")
    residual: bool = option(
        False, "tell what is added to a latent for the next one; false: the next one whole (LeWM's)"
    )
    projector: bool = option(
        False, "end in the encoder's kind of MLP with BatchNorm (LeWM's pred_proj), not a linear layer"
    )


@dataclass
class SIGRegConfig:
    weight: float = option(0.1, "λ of prediction + λ·SIGReg; images: of (1-λ)·invariance + λ·SIGReg")
    num_slices: int = option(256, "random directions, drawn anew at each step")
    knots: int = option(17, "quadrature knots of Epps-Pulley on [0, t_max]")
    t_max: float = option(3.0, "upper end of the quadrature")


@dataclass
class RivalConfig:
    variance: float = option(1.0, "vicreg, pldm: weight of the variance term beside the distance")
    covariance: float = option(0.04, "vicreg, pldm: weight of the covariance term")
    temperature: float = option(0.2, "simclr: by which similarities are divided")
    momentum: float = option(0.99, "byol, teacher, ema: share of the averaged weights that a step keeps")
    smoothness: float = option(0.1, "pldm: weight of the squared change from frame to frame")
    inverse: float = option(1.0, "pldm: weight of the error of the actions told from two latents")
    reconstruction: float = option(10.0, "decoder: weight of the squared error of its frames")


@dataclass
class ModelConfig:
    objective: str = option(
        "jepa",
        "jepa, or a rival loss; world models: none, ema, pldm, decoder, or frozen, an untrained encoder; "
        "images: none, vicreg, simclr, byol, supervised, or LeJEPA with a teacher (the centre comes from "
        "averaged weights, LeJEPA's SWA), a predictor or a teacher_predictor",
    )
    latent: int = option(112, "D, size of the latent")
    projector_hidden: int = option(256, "hidden units of the BatchNorm MLP after the encoder")
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    predictor: PredictorConfig = field(default_factory=PredictorConfig)
    sigreg: SIGRegConfig = field(default_factory=SIGRegConfig)
    rival: RivalConfig = field(default_factory=RivalConfig)

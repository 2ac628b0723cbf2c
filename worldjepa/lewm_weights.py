"""Published weights: a LeWorldModel state dict, as stable-worldmodel writes it, in this package's names.

The networks are the same; a few tensors are kept in another form, which changes no output: the matrices of
queries, keys and values are joined in the encoder and parted in the predictor; a bias before a BatchNorm is
part of its mean; and two linear layers with nothing between them (the convolution of width 1 that actions go
through, and the layer after it) are one.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from .errors import UserError

# Weights of one layer of the Hugging Face ViT, in its names since transformers 5 and before, to timm's.
VIT_LAYER = {
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "attention.o_proj": "attn.proj",
    "attention.output.dense": "attn.proj",
    "mlp.fc1": "mlp.fc1",
    "intermediate.dense": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
    "output.dense": "mlp.fc2",
}
VIT = {
    "embeddings.cls_token": "cls_token",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection.weight": "patch_embed.proj.weight",
    "embeddings.patch_embeddings.projection.bias": "patch_embed.proj.bias",
    "layernorm.weight": "norm.weight",
    "layernorm.bias": "norm.bias",
}
QUERY_KEY_VALUE = re.compile(
    r"attention\.(?:attention\.(?P<old>query|key|value)|(?P<new>[qkv])_proj)\.(weight|bias)"
)
BLOCK = {
    "attn.norm": "inner1",
    "attn.to_out.0": "out",
    "mlp.net.0": "inner2",
    "mlp.net.1": "mlp.0",
    "mlp.net.4": "mlp.3",
    "adaLN_modulation.1": "modulation",
}


def from_lewm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A LeWM state dict (303 tensors) to that of `WorldModel` with recipe `reacher_gpu`.

    Args:
        state: names of stable-worldmodel's `LeWM` (encoder, projector, action_encoder, predictor, pred_proj),
            alone or each behind one prefix, as Lightning leaves it ("model.encoder...").

    Returns:
        All but "action_encoder.mean" and "action_encoder.std": LeWM standardises actions outside the model.

    Raises:
        UserError: a tensor is missing, or has a name that LeWM has not.
    """
    parts = _parts(state)
    weights = {f"encoder.backbone.{name}": w for name, w in _vit(parts["encoder"]).items()}
    weights |= {f"projector.{name}": w for name, w in _mlp(parts["projector"], "projector").items()}
    weights |= {f"predictor.outward.{name}": w for name, w in _mlp(parts["pred_proj"], "pred_proj").items()}
    weights |= {f"predictor.{name}": w for name, w in _predictor(parts["predictor"]).items()}
    weights |= {f"action_encoder.mlp.{name}": w for name, w in _actions(parts["action_encoder"]).items()}
    return weights


def _parts(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Tensors by the part of the model that they belong to; other parts are left out."""
    anchor = next((name for name in state if name.endswith("predictor.pos_embedding")), None)
    if anchor is None:
        raise UserError("no LeWM weights: predictor.pos_embedding is missing")
    prefix = anchor.removesuffix("predictor.pos_embedding")
    parts: dict[str, dict[str, Tensor]] = {
        part: {} for part in ("encoder", "projector", "action_encoder", "predictor", "pred_proj")
    }
    for name, tensor in state.items():
        part, _, rest = name.removeprefix(prefix).partition(".")
        if name.startswith(prefix) and part in parts:
            parts[part][rest] = tensor
    return parts


def _take(part: dict[str, Tensor], name: str, where: str) -> Tensor:
    if name not in part:
        raise UserError(f"no LeWM weights: {where}.{name} is missing")
    return part[name]


def _unknown(where: str, name: str) -> UserError:
    return UserError(f"no LeWM weights: LeWM has no {where}.{name}")


def _vit(part: dict[str, Tensor]) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = {}
    thirds: dict[str, dict[str, Tensor]] = {}
    for name, tensor in part.items():
        layer = re.fullmatch(r"(?:encoder\.)?layers?\.(\d+)\.(.+)", name)
        if layer is None:
            if not name.startswith("pooler."):  # LeWM takes the CLS token itself
                weights[VIT.get(name) or _raise(_unknown("encoder", name))] = tensor
            continue
        number, rest = layer.groups()
        third = QUERY_KEY_VALUE.fullmatch(rest)
        if third:
            letter = third["new"] or third["old"][0]
            thirds.setdefault(f"blocks.{number}.attn.qkv.{third[3]}", {})[letter] = tensor
            continue
        module, _, kind = rest.rpartition(".")
        if module not in VIT_LAYER:
            raise _unknown("encoder", name)
        weights[f"blocks.{number}.{VIT_LAYER[module]}.{kind}"] = tensor
    for name, three in thirds.items():
        weights[name] = torch.cat([_take(three, letter, f"encoder ({name})") for letter in "qkv"])
    return weights


def _raise(error: UserError) -> str:
    raise error


def _mlp(part: dict[str, Tensor], where: str) -> dict[str, Tensor]:
    """Linear, BatchNorm, GELU, linear; the first bias goes into the BatchNorm's mean."""
    weights = {name.removeprefix("net."): tensor for name, tensor in part.items() if name != "net.0.bias"}
    weights["1.running_mean"] = _take(part, "net.1.running_mean", where) - _take(part, "net.0.bias", where)
    return weights


def _predictor(part: dict[str, Tensor]) -> dict[str, Tensor]:
    weights = {"position": _take(part, "pos_embedding", "predictor")[0]}
    for name, tensor in part.items():
        if name == "pos_embedding":
            continue
        module, _, kind = name.removeprefix("transformer.").rpartition(".")
        layer = re.fullmatch(r"layers\.(\d+)\.(.+)", module)
        if module == "norm":
            weights[f"norm.{kind}"] = tensor
        elif layer and layer[2] == "attn.to_qkv":
            block, inner = f"blocks.{layer[1]}", len(tensor) // 3
            weights[f"{block}.query.{kind}"] = tensor[:inner]
            weights[f"{block}.key_value.{kind}"] = tensor[inner:]
        elif layer and layer[2] in BLOCK:
            weights[f"blocks.{layer[1]}.{BLOCK[layer[2]]}.{kind}"] = tensor
        else:
            raise _unknown("predictor", name)
    return weights


def _actions(part: dict[str, Tensor]) -> dict[str, Tensor]:
    """W₀ (C a + c) + b₀ is (W₀ C) a + (W₀ c + b₀)."""
    kernel, kernel_bias, first, first_bias, second, second_bias = (
        _take(part, name, "action_encoder")
        for name in (
            "patch_embed.weight", "patch_embed.bias", "embed.0.weight", "embed.0.bias", "embed.2.weight",
            "embed.2.bias",
        )
    )  # fmt: skip
    wide = first.double()
    return {
        "0.weight": (wide @ kernel.squeeze(-1).double()).to(first.dtype),
        "0.bias": (wide @ kernel_bias.double() + first_bias.double()).to(first.dtype),
        "2.weight": second,
        "2.bias": second_bias,
    }

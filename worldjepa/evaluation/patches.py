"""What the patches of a ViT show: their principal components as colours, and where its class token looks, as
masks that can be held against a segmentation (LeJEPA, section 6.5; DINO, arXiv 2104.14294, figure 4)."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..encoders import Encoder
from ..errors import UserError


class Patches(NamedTuple):
    """Of images, patch by patch: `tokens` (N, h, w, D) after the final norm, and the share of its attention
    in the last block that the class token gives each, `attention` (N, heads, h, w), float32."""

    tokens: np.ndarray
    attention: np.ndarray


@torch.no_grad()
def look(encoder: Encoder, images: Tensor) -> Patches:
    """Tokens and attention of images (N, H, W, 3) or (N, H, W, 1) from 0 to 255.

    Args:
        encoder: of a timm ViT with a class token, in evaluation mode.

    Raises:
        UserError: it is another encoder.
    """
    # Importing timm takes longer than importing torch.
    from ..vit import all_tokens

    backbone: Any = getattr(encoder.backbone, "model", encoder.backbone)
    if getattr(backbone, "cls_token", None) is None or not hasattr(backbone, "blocks"):
        raise UserError(
            f"{type(backbone).__name__}: no ViT with a class token, which a look at patches takes"
        )
    attention = backbone.blocks[-1].attn
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        return lambda _, __, output: seen.__setitem__(name, output.float())

    hooks = [
        attention.qkv.register_forward_hook(keep("qkv")),
        backbone.norm.register_forward_hook(keep("tokens")),
    ]
    try:
        with all_tokens(backbone):
            encoder(images)
    finally:
        for hook in hooks:
            hook.remove()
    patch = backbone.patch_embed.patch_size
    grid = images.shape[1] // patch[0], images.shape[2] // patch[1]
    prefix = backbone.num_prefix_tokens
    query, key, _ = seen["qkv"].unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    logits = attention.q_norm(query[:, :, :1]) @ attention.k_norm(key).mT * attention.scale
    shares = nn.functional.softmax(logits, -1)[:, :, 0, prefix:]
    return Patches(
        seen["tokens"][:, prefix:].unflatten(1, grid).cpu().numpy(), shares.unflatten(2, grid).cpu().numpy()
    )


def component_colours(tokens: np.ndarray) -> np.ndarray:
    """The first three principal components of all patches (N, h, w, D) as red, green and blue, (N, h, w, 3)
    uint8: a component's middle 98 per cent spans a colour's range. The colours are those of all images
    together: of a video's frames they stay on what they are on."""
    flat = tokens.reshape(-1, tokens.shape[-1])
    centred = flat - flat.mean(0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    components = centred @ directions[:3].T
    low, high = np.percentile(components, [1, 99], axis=0)
    colours = np.clip((components - low) / np.maximum(high - low, 1e-12), 0, 1)
    return np.round(255 * colours).astype(np.uint8).reshape(*tokens.shape[:-1], 3)


def attention_masks(attention: np.ndarray, share: float = 0.6) -> np.ndarray:
    """Of maps (..., h, w) the fewest patches that hold so much of the attention to patches, bool."""
    flat = attention.reshape(*attention.shape[:-2], -1)
    order = np.argsort(-flat, -1, kind="stable")
    ranked = np.take_along_axis(flat, order, -1)
    before = np.cumsum(ranked, -1) - ranked
    chosen = np.zeros(flat.shape, bool)
    np.put_along_axis(chosen, order, before < share * flat.sum(-1, keepdims=True), -1)
    return chosen.reshape(attention.shape)


def overlap(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Intersection over union of masks (..., h, w) bool, to (...); of two empty ones 1. The masks of `one`
    are enlarged to those of `other`, each patch a square of pixels, by a whole factor."""
    factor = other.shape[-1] // one.shape[-1]
    one = one.repeat(factor, -1).repeat(factor, -2)
    union = (one | other).sum((-2, -1))
    return np.where(union > 0, (one & other).sum((-2, -1)) / np.maximum(union, 1), 1.0)


def best_overlap(truth: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """What masks of whole patches could have at most of `overlap` with masks (..., H, W) bool, to (...).

    Args:
        grid: (h, w) patches, H and W whole multiples of them.
    """
    height, width = truth.shape[-2] // grid[0], truth.shape[-1] // grid[1]
    cells = truth.reshape(*truth.shape[:-2], grid[0], height, grid[1], width).sum((-3, -1))
    # Of all masks of n patches, the best one has those that cover most.
    covered = np.cumsum(-np.sort(-cells.reshape(*cells.shape[:-2], -1), -1), -1)
    marked = height * width * np.arange(1, covered.shape[-1] + 1)
    whole = truth.sum((-2, -1))
    return np.where(whole > 0, (covered / (marked + whole[..., None] - covered)).max(-1), 1.0)


def compare_with_segmentation(
    attention: np.ndarray, truth: np.ndarray, share: float = 0.6, head: int | None = None
) -> dict[str, Any]:
    """How the masks of an episode's frames, in their order, agree with what is there.

    Args:
        attention: (T, heads, h, w). truth: (T, H, W) bool, H and W whole multiples of h and w.
        share: of `attention_masks`.
        head: whose masks; None: of the head whose masks overlap best on average.

    Returns:
        "head", which one it is; "overlap" (T,), of its masks; "everything", what a mask of the whole frame
        would have; "steadiness", the overlap of one frame's mask with the next one's, beside
        "steadiness_of_truth".
    """
    masks = attention_masks(attention, share)
    overlaps = overlap(masks, truth[:, None])
    head = int(overlaps.mean(0).argmax()) if head is None else head
    own = masks[:, head]
    return {
        "head": head,
        "overlap": overlaps[:, head],
        "everything": float(truth.mean()),
        "steadiness": float(overlap(own[:-1], own[1:]).mean()),
        "steadiness_of_truth": float(overlap(truth[:-1], truth[1:]).mean()),
    }

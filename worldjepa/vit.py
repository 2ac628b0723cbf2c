"""timm's vision transformer where the class token alone is read."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn


class LastBlock(Block):
    """The last block: once its attention has looked, the other tokens are done, and only the class token goes
    on to the MLP, two thirds of the block's arithmetic. Outputs and gradients are the whole block's."""

    def forward(self, x: Tensor, *mask: Any, **named: Any) -> Tensor:
        """(B, N, width) to (B, 1, width), the class token being the first of N."""
        x = x + self.drop_path1(self.ls1(self.attn(self.norm1(x), *mask, **named)))
        x = x[:, :1]
        return x + self.drop_path2(self.ls2(self.mlp(self.norm2(x))))


def read_class_token_alone(model: nn.Module) -> None:
    """Spare a vision transformer what nobody reads of its last block, in place; other models, and those that
    pool over all tokens, stay as they are."""
    if (
        not isinstance(model, VisionTransformer)
        or model.global_pool != "token"
        or model.attn_pool is not None
    ):
        return
    if type(model.blocks[-1]) is Block:
        # What it holds and is called stays: another forward is all that changes.
        model.blocks[-1].__class__ = LastBlock


@contextmanager
def all_tokens(model: nn.Module) -> Iterator[None]:
    """While it lasts, the last block of a vision transformer gives all its tokens, as timm's own does."""
    last = model.blocks[-1]  # type: ignore[index]
    spared = type(last) is LastBlock
    try:
        if spared:
            last.__class__ = Block
        yield
    finally:
        if spared:
            last.__class__ = LastBlock

"""The predictor: a causal transformer over past latents, conditioned on action blocks by AdaLN-zero."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .config import PredictorConfig
from .encoders import projector


class ActionEncoder(nn.Module):
    """Action blocks to conditioning vectors: standardised, then a two-layer MLP.

    Args:
        action_dim: A, size of one action.
        frameskip: k, actions in a block.
        width: of the conditioning vector.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, action_dim: int, frameskip: int, width: int):
        super().__init__()
        self.frameskip = frameskip
        # Statistics of the training actions, so that the model takes actions in the environment's units.
        self.register_buffer("mean", torch.zeros(action_dim))
        self.register_buffer("std", torch.ones(action_dim))
        self.mlp = nn.Sequential(nn.Linear(frameskip * action_dim, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, actions: Tensor) -> Tensor:
        """(..., k·A) in the environment's units to (..., width)."""
        mean, std = self.mean.repeat(self.frameskip), self.std.repeat(self.frameskip)
        return self.mlp((actions - mean) / std)


class Block(nn.Module):
    """Attention and MLP, each with its input shifted and scaled, and its output gated, by the condition
    (DiT's AdaLN-zero, arXiv 2212.09748): the gates start at zero, so a new block is the identity."""

    def __init__(self, config: PredictorConfig):
        super().__init__()
        inner = config.heads * config.head_width
        self.heads, self.dropout = config.heads, config.dropout
        self.norm1 = nn.LayerNorm(config.width, elementwise_affine=False)
        self.norm2 = nn.LayerNorm(config.width, elementwise_affine=False)
        self.qkv = nn.Linear(config.width, 3 * inner, bias=False)
        self.out = nn.Linear(inner, config.width)
        self.mlp = nn.Sequential(
            nn.Linear(config.width, config.mlp_width),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.mlp_width, config.width),
            nn.Dropout(config.dropout),
        )
        self.modulation = nn.Linear(config.width, 6 * config.width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Tokens (B, T, width) and conditions (B, T, width) to tokens (B, T, width)."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(F.silu(condition)).chunk(6, -1)
        x = x + gate1 * self.attention(self.norm1(x) * (1 + scale1) + shift1)
        return x + gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2)

    def attention(self, x: Tensor) -> Tensor:
        """Causal self-attention, (B, T, width) to (B, T, width)."""
        q, k, v = rearrange(self.qkv(x), "b t (three h d) -> three b h t d", three=3, h=self.heads)
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
        return F.dropout(self.out(rearrange(y, "b h t d -> b t (h d)")), self.dropout, self.training)


class Predictor(nn.Module):
    """ẑ_{t+1} from z_{≤t} and the action blocks up to the one that leads from t to t+1 (LeWM, section 3.1).

    Args:
        config: its sizes.
        latent: D.
        context: C, the most tokens it takes; positions are learnt.
        projector_hidden: hidden units of the MLP that it ends in, where config.projector asks for one.
    """

    def __init__(self, config: PredictorConfig, latent: int, context: int, projector_hidden: int):
        super().__init__()
        self.inward = nn.Linear(latent, config.width) if latent != config.width else nn.Identity()
        self.position = nn.Parameter(0.02 * torch.randn(context, config.width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)
        self.outward = (
            projector(config.width, projector_hidden, latent)
            if config.projector
            else nn.Linear(config.width, latent)
        )

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        """Latents (B, T, D) and encoded action blocks (B, T, width), T ≤ C, to predictions (B, T, D), of
        which number t is of the latent after z_t."""
        x = self.inward(z) + self.position[: z.shape[1]]
        for block in self.blocks:
            x = block(x, condition)
        return self.outward(self.norm(x).flatten(0, 1)).unflatten(0, x.shape[:2])

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


# Keys and values (B, heads, T, head_width) of the tokens that those to come may look back at.
Cache = tuple[Tensor, Tensor]


class Block(nn.Module):
    """Attention and MLP, each with its input shifted and scaled, and its output gated, by the condition
    (DiT's AdaLN-zero, arXiv 2212.09748): the gates start at zero, so a new block is the identity.

    Attention looks back over `context` tokens, its own included. With relative positions a learnt number for
    every head and lag is added to the logits; that of lag 0 is 0, since a constant on all changes nothing.
    """

    def __init__(self, config: PredictorConfig, context: int):
        super().__init__()
        inner = config.heads * config.head_width
        self.heads, self.dropout, self.context = config.heads, config.dropout, context
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
        relative = config.positions == "relative"
        self.lags = nn.Parameter(torch.zeros(config.heads, context - 1)) if relative else None

    def modulate(self, condition: Tensor) -> Tensor:
        """Conditions (B, T, width) to shifts, scales and gates (B, T, 6·width)."""
        return self.modulation(F.silu(condition))

    def forward(self, x: Tensor, modulation: Tensor, past: Cache | None = None) -> tuple[Tensor, Cache]:
        """Tokens (B, T, width), which come after those of `past`, with `modulate`'s (B, T, 6·width), to
        tokens (B, T, width) and what the next ones may look back at."""
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation.chunk(6, -1)
        seen, past = self.attention(self.norm1(x) * (1 + scale1) + shift1, past)
        x = x + gate1 * seen
        return x + gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2), past

    def attention(self, x: Tensor, past: Cache | None) -> tuple[Tensor, Cache]:
        """Causal self-attention over the last `context` tokens, (B, T, width) to (B, T, width)."""
        q, k, v = rearrange(self.qkv(x), "b t (three h d) -> three b h t d", three=3, h=self.heads)
        if past is not None:
            k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
        dropout = self.dropout if self.training else 0.0
        weigh = self.weighing(q.shape[2], k.shape[2]).to(q.dtype)
        y = F.scaled_dot_product_attention(q, k, v, weigh, dropout)
        y = F.dropout(self.out(rearrange(y, "b h t d -> b t (h d)")), self.dropout, self.training)
        first = max(0, k.shape[2] - self.context + 1)
        return y, (k[:, :, first:], v[:, :, first:])

    def weighing(self, queries: int, keys: int) -> Tensor:
        """What is added to the attention's logits, (heads or 1, queries, keys), the queries being the last of
        the keys: -∞ where a key is not looked at."""
        device = self.out.weight.device
        lag = torch.arange(keys - queries, keys, device=device)[:, None] - torch.arange(keys, device=device)
        unseen = (lag < 0) | (lag >= self.context)
        none = torch.zeros(1, self.context, device=device)
        table = none if self.lags is None else F.pad(self.lags, (1, 0))
        return table[:, lag.clamp(0, self.context - 1)].masked_fill(unseen, -torch.inf)


class Predictor(nn.Module):
    """ẑ_{t+1} from z_{≤t} and the action blocks up to the one that leads from t to t+1 (LeWM, section 3.1).

    Args:
        config: its sizes.
        latent: D.
        context: C, how many tokens back attention looks, its own included.
        projector_hidden: hidden units of the MLP that it ends in, where config.projector asks for one.
    """

    def __init__(self, config: PredictorConfig, latent: int, context: int, projector_hidden: int):
        super().__init__()
        self.context = context
        self.inward = nn.Linear(latent, config.width) if latent != config.width else nn.Identity()
        learnt = config.positions == "learnt"
        self.position = nn.Parameter(0.02 * torch.randn(context, config.width)) if learnt else None
        self.blocks = nn.ModuleList(Block(config, context) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)
        self.outward = (
            projector(config.width, projector_hidden, latent)
            if config.projector
            else nn.Linear(config.width, latent)
        )

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        """Latents (B, T, D) and encoded action blocks (B, T, width) to predictions (B, T, D), of which number
        t is of the latent after z_t. With learnt positions T is at most C."""
        return self._run(z, self._modulations(condition), None)[0]

    def rollout(self, z: Tensor, past: Tensor, plans: Tensor) -> Tensor:
        """Autoregressive prediction: every prediction is the next one's input.

        With relative positions no token is computed twice: keys and values are kept, those of what was seen
        once for all plans, and what actions alone decide is one product for all. It is exactly `forward` on
        the latents seen and imagined. Learnt positions belong to a window's places, so once the window
        moves, its tokens are computed anew: LeWM's way.

        Args:
            z: (B, T, D) latents seen, 1 ≤ T ≤ C.
            past: (B, T-1, width) encoded action blocks between them.
            plans: (B, S, H, width) encoded action blocks of S plans.

        Returns:
            (B, S, H, D).
        """
        return self._by_windows(z, past, plans) if self.position is not None else self._cached(z, past, plans)

    def _cached(self, z: Tensor, past: Tensor, plans: Tensor) -> Tensor:
        samples, horizon = plans.shape[1:3]
        caches = None
        if z.shape[1] > 1:
            _, seen = self._run(z[:, :-1], self._modulations(past), None)
            caches = [(k.repeat_interleave(samples, 0), v.repeat_interleave(samples, 0)) for k, v in seen]
        modulations = [modulation.flatten(0, 1) for modulation in self._modulations(plans)]
        latent, ahead = z[:, -1:].repeat_interleave(samples, 0), []
        for step in range(horizon):
            now = [modulation[:, step : step + 1] for modulation in modulations]
            latent, caches = self._run(latent, now, caches)
            ahead.append(latent)
        return torch.cat(ahead, 1).unflatten(0, (-1, samples))

    def _by_windows(self, z: Tensor, past: Tensor, plans: Tensor) -> Tensor:
        seen, (samples, horizon) = z.shape[1], plans.shape[1:3]
        z, past = (x.repeat_interleave(samples, 0) for x in (z, past))
        condition = torch.cat([past, plans.flatten(0, 1)], 1)
        for last in range(seen, seen + horizon):
            # Tokens first..last-1 predict the latent at `last`.
            first = max(0, last - self.context)
            z = torch.cat([z, self(z[:, first:last], condition[:, first:last])[:, -1:]], 1)
        return z[:, seen:].unflatten(0, (-1, samples))

    def _modulations(self, condition: Tensor) -> list[Tensor]:
        return [block.modulate(condition) for block in self.blocks]  # type: ignore[operator]

    def _run(
        self, z: Tensor, modulations: list[Tensor], caches: list[Cache] | None
    ) -> tuple[Tensor, list[Cache]]:
        x, kept = self.inward(z), []
        if self.position is not None:
            x = x + self.position[: z.shape[1]]
        for number, block in enumerate(self.blocks):
            x, cache = block(x, modulations[number], caches and caches[number])
            kept.append(cache)
        return self.outward(self.norm(x).flatten(0, 1)).unflatten(0, x.shape[:2]), kept

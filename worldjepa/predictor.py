"""The predictor: a causal transformer over past latents, conditioned on action blocks by AdaLN-zero."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .encoders import projector
from .linear import Linear
from .model_config import PredictorConfig


class ActionEncoder(nn.Module):
    """Action blocks to conditioning vectors: standardised, then a two-layer MLP.

    Args:
        action_dim: A, size of one action.
        frameskip: k, actions in a block.
        width: of the conditioning vector.
        hidden: units between; 0: width.
        pads: take actions of fewer numbers too, as of one of several tasks; the others are 0.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, action_dim: int, frameskip: int, width: int, hidden: int = 0, pads: bool = False):
        super().__init__()
        self.frameskip, self.pads = frameskip, pads
        # Statistics of the training actions, so that the model takes actions in the environment's units.
        self.register_buffer("mean", torch.zeros(action_dim))
        self.register_buffer("std", torch.ones(action_dim))
        self.mlp = nn.Sequential(
            Linear(frameskip * action_dim, hidden or width),
            nn.SiLU(),
            Linear(hidden or width, width),
        )

    def forward(self, actions: Tensor) -> Tensor:
        """(..., k·A) in the environment's units to (..., width)."""
        return self.mlp(self.standardise(actions))

    def standardise(self, actions: Tensor) -> Tensor:
        """(..., k·A) in the environment's units to mean 0 and standard deviation 1 over the data."""
        missing = len(self.mean) - actions.shape[-1] // self.frameskip
        if self.pads and missing > 0:
            actions = F.pad(actions.unflatten(-1, (self.frameskip, -1)), (0, missing)).flatten(-2)
        mean, std = self.mean.repeat(self.frameskip), self.std.repeat(self.frameskip)
        return (actions - mean) / std


# Keys and values (B, heads, T, head_width) of the tokens that those to come may look back at.
Cache = tuple[Tensor, Tensor]


class Block(nn.Module):
    """Attention and MLP, each with its input shifted and scaled, and its output gated, by the condition
    (DiT's AdaLN-zero, arXiv 2212.09748): the gates start at zero, so a new block is the identity.

    Attention looks back over `context` tokens, its own included. With relative positions a learnt number for
    every head and lag is added to the logits; that of lag 0 is 0, since a constant on all changes nothing.
    With `inner_norms` attention and MLP begin with a LayerNorm of their own, as in LeWM's released code.
    """

    def __init__(self, config: PredictorConfig, context: int):
        super().__init__()
        inner = config.heads * config.head_width
        self.heads, self.dropout, self.context = config.heads, config.dropout, context
        self.norm1 = nn.LayerNorm(config.width, eps=1e-6, elementwise_affine=False)
        self.norm2 = nn.LayerNorm(config.width, eps=1e-6, elementwise_affine=False)
        self.inner1 = nn.LayerNorm(config.width) if config.inner_norms else nn.Identity()
        self.inner2 = nn.LayerNorm(config.width) if config.inner_norms else nn.Identity()
        self.query = Linear(config.width, inner, bias=False)
        self.key_value = Linear(config.width, 2 * inner, bias=False)
        self.out = Linear(inner, config.width)
        self.mlp = nn.Sequential(
            Linear(config.width, config.mlp_width),
            nn.GELU(),
            nn.Dropout(config.dropout),
            Linear(config.mlp_width, config.width),
            nn.Dropout(config.dropout),
        )
        self.modulation = Linear(config.width, 6 * config.width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        relative = config.positions == "relative"
        self.lags = nn.Parameter(torch.zeros(config.heads, context - 1)) if relative else None

    def modulate(self, condition: Tensor) -> Tensor:
        """Conditions (B, T, width) to shifts, scales and gates (B, T, 6·width)."""
        return self.modulation(F.silu(condition))

    def forward(
        self, x: Tensor, modulation: Tensor, past: Cache | None = None, last: bool = False
    ) -> tuple[Tensor, Cache]:
        """Tokens (B, T, width), which come after those of `past`, with `modulate`'s (B, T, 6·width), to
        tokens (B, T, width), or the last alone (B, 1, width), and what the next ones may look back at."""
        shift, scale = modulation.chunk(6, -1)[:2]
        inputs = self.inner1(torch.addcmul(shift, self.norm1(x), 1 + scale))
        if last:
            x, modulation = x[:, -1:], modulation[:, -1:]
        gate1, shift, scale, gate2 = modulation.chunk(6, -1)[2:]
        seen, past = self.attention(inputs[:, -x.shape[1] :], inputs, past)
        x = torch.addcmul(x, gate1, seen)
        inputs = self.inner2(torch.addcmul(shift, self.norm2(x), 1 + scale))
        return torch.addcmul(x, gate2, self.mlp(inputs)), past

    def attention(self, x: Tensor, tokens: Tensor, past: Cache | None) -> tuple[Tensor, Cache]:
        """What x (B, n, width), the last of `tokens` (B, T, width), see in these and the past; causal, over
        `context` tokens. (B, n, width), and what the next ones may look back at."""
        q = rearrange(self.query(x), "b t (h d) -> b h t d", h=self.heads)
        k, v = rearrange(self.key_value(tokens), "b t (two h d) -> two b h t d", two=2, h=self.heads)
        if past is not None:
            k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
        dropout = self.dropout if self.training else 0.0
        weigh = self.weighing(q.shape[2], k.shape[2], x.device)
        # With four axes: the fused kernels take no mask of three.
        mask = None if weigh is None else weigh[None].to(q.dtype)
        y = F.scaled_dot_product_attention(q, k, v, mask, dropout)
        y = F.dropout(self.out(rearrange(y, "b h t d -> b t (h d)")), self.dropout, self.training)
        first = max(0, k.shape[2] - self.context + 1)
        return y, (k[:, :, first:], v[:, :, first:])

    def weighing(self, queries: int, keys: int, device: torch.device) -> Tensor | None:
        """What is added to the attention's logits, (heads or 1, queries, keys), the queries being the last of
        the keys: -∞ where a key is not looked at. None where nothing is."""
        if queries == 1 and keys <= self.context and self.lags is None:
            return None
        lag = torch.arange(keys - queries, keys, device=device)[:, None] - torch.arange(keys, device=device)
        unseen = (lag < 0) | (lag >= self.context)
        none = torch.zeros(1, self.context, device=device)
        table = none if self.lags is None else F.pad(self.lags, (1, 0))
        return table[:, lag.clamp(0, self.context - 1)].masked_fill(unseen, -torch.inf)


class Predictor(nn.Module):
    """ẑ_{t+1} from z_{≤t} and the action blocks up to the one that leads from t to t+1 (LeWM, section 3.1).

    With `residual` the blocks tell what is added to z_t, and a new predictor says that nothing changes.
    LeWM's tells ẑ_{t+1} whole, out of a LayerNorm that takes off the length of z_t: where little changes from
    frame to frame, its error stays above that of "nothing changes" for long.

    Args:
        config: its sizes.
        latent: D.
        context: C, how many tokens back attention looks, its own included.
        projector_hidden: hidden units of the MLP that it ends in, where config.projector asks for one.
    """

    def __init__(self, config: PredictorConfig, latent: int, context: int, projector_hidden: int):
        super().__init__()
        self.context = context
        self.inward = Linear(latent, config.width) if latent != config.width else nn.Identity()
        learnt = config.positions == "learnt"
        self.position = nn.Parameter(0.02 * torch.randn(context, config.width)) if learnt else None
        self.blocks = nn.ModuleList(Block(config, context) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)
        if config.projector:
            # Its BatchNorm takes the bias off again: the gradient is rounding alone, which Adam would follow.
            self.norm.bias.requires_grad_(False)
        self.outward = (
            projector(config.width, projector_hidden, latent)
            if config.projector
            else Linear(config.width, latent)
        )
        self.residual = config.residual
        if self.residual:
            for parameter in list(self.outward.parameters())[-2:]:
                nn.init.zeros_(parameter)

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        """Latents (B, T, D) and encoded action blocks (B, T, width) to predictions (B, T, D), of which number
        t is of the latent after z_t. With learnt positions T is at most C."""
        return self._run(z, self._modulations(condition))[0]

    def rollout(self, z: Tensor, past: Tensor, plans: Tensor) -> Tensor:
        """Autoregressive prediction: every prediction is the next one's input. It is exactly `forward` on the
        latents seen and imagined.

        Keys and values are kept, those of what was seen once for all plans, and what actions alone decide is
        one product for all: with relative positions no token is computed twice. Learnt positions (LeWM's)
        belong to a window's places, so once the window moves, its tokens are computed anew.

        Args:
            z: (B, T, D) latents seen, 1 ≤ T ≤ C.
            past: (B, T-1, width) encoded action blocks between them.
            plans: (B, S, H, width) encoded action blocks of S plans.

        Returns:
            (B, S, H, D).
        """
        (seen, samples, horizon) = z.shape[1], *plans.shape[1:3]
        before = self._modulations(past)
        modulations = [modulation.flatten(0, 1) for modulation in self._modulations(plans)]
        fitting = horizon if self.position is None else min(horizon, self.context - seen + 1)
        ahead = self._cached(z, before, modulations, samples, fitting)
        if fitting < horizon:
            ahead = self._by_windows(z, before, modulations, samples, ahead)
        return ahead.unflatten(0, (-1, samples))

    def _cached(
        self, z: Tensor, before: list[Tensor], modulations: list[Tensor], samples: int, steps: int
    ) -> Tensor:
        """The first predictions of all plans, (B·S, steps, D), one token after the other."""
        caches, seen = None, z.shape[1]
        if seen > 1:
            _, kept = self._run(z[:, :-1], before)
            caches = [(_each(k, samples), _each(v, samples)) for k, v in kept]
        latent, ahead = _each(z[:, -1:], samples), []
        for step in range(steps):
            now = [modulation[:, step : step + 1] for modulation in modulations]
            latent, caches = self._run(latent, now, caches, place=seen - 1 + step)
            ahead.append(latent)
        return torch.cat(ahead, 1)

    def _by_windows(
        self, z: Tensor, before: list[Tensor], modulations: list[Tensor], samples: int, ahead: Tensor
    ) -> Tensor:
        """All predictions (B·S, H, D) from the first of them, each from the last C tokens."""
        seen = z.shape[1]
        tokens = torch.cat([_each(z, samples), ahead], 1)
        everything = modulations
        if seen > 1:
            pairs = zip(before, modulations, strict=True)
            everything = [torch.cat([_each(old, samples), new], 1) for old, new in pairs]
        for last in range(tokens.shape[1], everything[0].shape[1] + 1):
            first = last - self.context
            window = [modulation[:, first:last] for modulation in everything]
            tokens = torch.cat([tokens, self._run(tokens[:, first:], window, last=True)[0]], 1)
        return tokens[:, seen:]

    def _modulations(self, condition: Tensor) -> list[Tensor]:
        return [block.modulate(condition) for block in self.blocks]  # type: ignore[operator]

    def _run(
        self,
        z: Tensor,
        modulations: list[Tensor],
        caches: list[Cache] | None = None,
        place: int = 0,
        last: bool = False,
    ) -> tuple[Tensor, list[Cache]]:
        """Predictions of the tokens, or of the last alone, and what the next ones may look back at; with
        learnt positions the first token has number `place`."""
        x, kept = self.inward(z), []
        if self.position is not None:
            x = x + self.position[place : place + z.shape[1]]
        for number, block in enumerate(self.blocks):
            past = caches and caches[number]
            x, cache = block(x, modulations[number], past, last and number == len(self.blocks) - 1)
            kept.append(cache)
        out = self.outward(self.norm(x).flatten(0, 1)).unflatten(0, x.shape[:2])
        return z[:, -out.shape[1] :] + out if self.residual else out, kept


def _each(x: Tensor, times: int) -> Tensor:
    """Rows (B, ...), each so many times in a row, (B·times, ...)."""
    # repeat_interleave says the same, but not so that it survives the way to ONNX.
    return x.unsqueeze(1).expand(-1, times, *x.shape[1:]).flatten(0, 1)

"""What planning is compared with on the same frozen encoder: policies that act from one look at the goal.

Goal-conditioned behaviour cloning learns the action block that, in the data, was taken on the way to a latent
some blocks ahead; inverse dynamics the one that leads to the next. Both are one small network from two
latents, at a hundredth of a planner's cost.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..data.windows import Windows
from ..world_model import WorldModel

WINDOWS, BATCH, WIDTH = 5000, 512, 256


class ReactivePolicy:
    """Acts by network(z_now, z_goal), block after block.

    Args:
        model: whose encoder sees; in evaluation mode.
        network: (E, 2·D) to action blocks (E, k·A), in units of the range of the actions, -1 to 1.
        low, high: (A,) bounds of an action.
    """

    def __init__(self, model: WorldModel, network: nn.Module, low: np.ndarray, high: np.ndarray):
        self.model, self.network, self.low, self.high = model, network, low, high
        self.device = next(model.parameters()).device

    def reset(self, frames: np.ndarray, states: np.ndarray | None = None) -> None:
        self.goal = self._encode(frames)

    def act(self, frames: np.ndarray, states: np.ndarray | None = None) -> np.ndarray:
        """(E, k, A) actions towards the goals from what is seen, frames (E, H, W, 3) uint8."""
        with torch.inference_mode():
            blocks = self.network(torch.cat([self._encode(frames), self.goal], -1)).clamp(-1, 1)
        share = (blocks.float().cpu().numpy().reshape(len(frames), -1, len(self.low)) + 1) / 2
        return (self.low + share * (self.high - self.low)).astype(np.float32)

    def keep(self, mask: np.ndarray) -> None:
        self.goal = self.goal[torch.as_tensor(mask, device=self.device)]

    @torch.inference_mode()
    def _encode(self, frames: np.ndarray) -> Tensor:
        return self.model.encode(torch.as_tensor(frames, device=self.device)).float()


def fit(z: Tensor, actions: Tensor, horizons: Sequence[int], seed: int, label: str, steps: int) -> nn.Module:
    """A network from two latents to the first action block between them.

    Args:
        z: (n, T, D) latents of windows.
        actions: (n, T-1, k·A) action blocks between them, in units of the range of the actions, -1 to 1.
        horizons: how many blocks lie between the two latents, drawn anew for each sample; each from 1 to T-1.
        seed: of the weights and the batches.
        label: of the progress bar.
        steps: of AdamW, with a rate that falls from 0.001 to 0.
    """
    with torch.random.fork_rng([z.device] if z.is_cuda else []):
        torch.manual_seed(seed)
        mean, std = z.flatten(0, 1).mean(0), z.flatten(0, 1).std(0).clamp_min(1e-6)
        network = nn.Sequential(
            Standardise(mean.repeat(2), std.repeat(2)),
            nn.Linear(2 * z.shape[-1], WIDTH),
            nn.GELU(),
            nn.Linear(WIDTH, WIDTH),
            nn.GELU(),
            nn.Linear(WIDTH, actions.shape[-1]),
        ).to(z.device)
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        choices = torch.tensor(horizons, device=z.device)
        for _ in tqdm(range(steps), desc=label, unit=" steps", leave=False):
            rows = torch.randint(len(z), (BATCH,), device=z.device)
            ahead = choices[torch.randint(len(choices), (BATCH,), device=z.device)]
            start = (torch.rand(BATCH, device=z.device) * (z.shape[1] - ahead)).long()
            predicted = network(torch.cat([z[rows, start], z[rows, start + ahead]], -1))
            loss = (predicted - actions[rows, start]).square().mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


class Standardise(nn.Module):
    """(..., n) less a mean, over a standard deviation."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


def rivals(
    model: WorldModel,
    windows: Windows,
    low: np.ndarray,
    high: np.ndarray,
    steps: int,
    seed: int,
) -> dict[str, ReactivePolicy]:
    """Both, trained on up to 5,000 windows of training episodes.

    Args:
        windows: of H + 1 frames; behaviour cloning looks 1 to H blocks ahead.
        low, high: (A,) bounds of an action.
        steps: of each one's training.
    """
    indices = np.sort(np.random.default_rng(seed).permutation(len(windows))[:WINDOWS])
    device = next(model.parameters()).device
    z, actions = [], []
    for part in tqdm(
        np.array_split(indices, max(1, len(indices) // 64)), desc="embed for rivals", leave=False
    ):
        batch = windows.batch(part)
        with torch.inference_mode():
            z.append(model.encode(batch["pixels"].to(device)).float())
        actions.append(batch["action"])
    blocks = torch.cat(actions).unflatten(-1, (-1, len(low)))
    lowest, highest = torch.as_tensor(low), torch.as_tensor(high)
    blocks = ((blocks - lowest) / (highest - lowest) * 2 - 1).flatten(-2).to(device)
    # Out of inference mode, where autograd takes no tensors from.
    latents = torch.cat(z).clone()
    names = {"behaviour cloning": range(1, windows.frames), "inverse dynamics": [1]}
    return {
        name: ReactivePolicy(model, fit(latents, blocks, list(ahead), seed, name, steps), low, high)
        for name, ahead in names.items()
    }

"""A decoder trained afterwards on a frozen model's latents: what they hold, and what the model imagines.

It is for looking at, never a part of the loss, as in LeWorldModel (arXiv 2603.19312).
"""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..config import DecodeConfig
from ..data.windows import Windows
from ..errors import UserError
from ..files import whole
from ..tensor_files import Damaged, load_into, read_tensors, write_tensors
from ..world_baselines import FrameDecoder
from ..world_model import WorldModel
from .probes import embed
from .rivals import Standardise

# Frames decoded at once.
AT_ONCE = 256


class LatentDecoder(nn.Module):
    """Latents (..., D) to frames (..., H, W, 3): the mean frame, and what the latent adds to it.

    Args:
        latent: D. image_size: H and W. width: of `FrameDecoder`.
    """

    mean_frame: Tensor

    def __init__(self, latent: int, image_size: int, width: int):
        super().__init__()
        self.standardise = Standardise(torch.zeros(latent), torch.ones(latent))
        # A third faster on a CPU.
        self.network = FrameDecoder(latent, image_size, width).to(memory_format=torch.channels_last)
        self.register_buffer("mean_frame", torch.zeros(image_size, image_size, 3))

    def forward(self, z: Tensor) -> Tensor:
        """Floats, black at 0 and full light at 1, unclipped."""
        added = self.network(self.standardise(z.flatten(0, -2))).permute(0, 2, 3, 1)
        return self.mean_frame + added.unflatten(0, z.shape[:-1])

    @torch.inference_mode()
    def frames(self, z: Tensor) -> Tensor:
        """The same from 0 to 1."""
        flat = z.flatten(0, -2)
        decoded = [self(part).clamp(0, 1) for part in flat.split(AT_ONCE)]
        return torch.cat(decoded).unflatten(0, z.shape[:-1])


def fit_decoder(model: WorldModel, windows: Windows, image_size: int, options: DecodeConfig) -> LatentDecoder:
    """Least squares on frames of training episodes; AdamW with a rate that falls to 0.

    Args:
        model: frozen, in evaluation mode; the decoder is trained where it is.
        windows: of one frame.
    """
    rng, device = np.random.default_rng(options.seed), next(model.parameters()).device
    chosen = np.sort(rng.permutation(len(windows))[: options.train_frames])
    z = torch.from_numpy(embed(model, windows, chosen, "embed for the decoder")[:, 0]).to(device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(options.seed)
        decoder = LatentDecoder(z.shape[1], image_size, options.width).to(device)
    decoder.standardise.mean.copy_(z.mean(0))
    decoder.standardise.std.copy_(z.std(0).clamp_min(1e-6))
    decoder.mean_frame.copy_(_mean_frame(windows, chosen))
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=options.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.steps)
    for _ in tqdm(range(options.steps), desc="train the decoder", unit=" steps", leave=False):
        rows = rng.integers(len(chosen), size=options.batch_size)
        frames = windows.batch(chosen[rows])["pixels"][:, 0].to(device) / 255
        loss = (decoder(z[rows]) - frames).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    return decoder.eval()


def _mean_frame(windows: Windows, indices: np.ndarray) -> Tensor:
    """(H, W, 3) from 0 to 1."""
    parts = np.array_split(indices, max(1, len(indices) // AT_ONCE))
    sums = [windows.batch(part)["pixels"].sum((0, 1), dtype=torch.float64) for part in parts]
    return (torch.stack(sums).sum(0) / (255 * len(indices))).float()


def save_decoder(decoder: LatentDecoder, path: Path, about: dict[str, Any]) -> None:
    """Weights in safetensors, with what they were made of; whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as temporary:
        write_tensors(temporary, decoder.state_dict(), {"about": json.dumps(about)})


def load_decoder(path: Path, about: dict[str, Any], decoder: LatentDecoder) -> LatentDecoder | None:
    """The decoder with the weights of a file, if it is there, whole, and made of what `about` says."""
    try:
        weights, said = read_tensors(path)
        if said.get("about") != json.dumps(about):
            return None
        load_into(decoder, weights, path)
    except (Damaged, UserError):
        return None
    return decoder.eval()


def learning(options: DecodeConfig) -> dict[str, Any]:
    """Of the options those that the weights depend on."""
    values = dataclasses.asdict(options)
    return {name: values[name] for name in values if name not in ("horizon", "windows", "episodes")}


@dataclasses.dataclass
class Decoded:
    """Frames of N held-out stretches, of `context` frames seen and H imagined.

    Attributes:
        true: (N, C+H, H, W, 3), from 0 to 1.
        reconstructed: likewise, of the latents of the true frames.
        imagined: likewise, from the rollout of the first C frames with the true actions; those first C are as
            reconstructed.
    """

    true: Tensor
    reconstructed: Tensor
    imagined: Tensor


@torch.inference_mode()
def decode(model: WorldModel, decoder: LatentDecoder, batch: dict[str, Tensor], context: int) -> Decoded:
    """Held-out stretches as they are, as their latents say, and as they are imagined.

    Args:
        batch: "pixels" (N, C+H, H, W, 3) uint8, "action" (N, C+H-1, k·A).
    """
    device = decoder.mean_frame.device
    pixels, actions = batch["pixels"].to(device), batch["action"].to(device)
    z = model.encode(pixels).float()
    ahead = model.rollout(z[:, :context], actions[:, : context - 1], actions[:, context - 1 :]).float()
    reconstructed = decoder.frames(z)
    imagined = torch.cat([reconstructed[:, :context], decoder.frames(ahead)], 1)
    return Decoded(pixels / 255, reconstructed, imagined)


def judge(
    model: WorldModel, decoder: LatentDecoder, windows: Windows, indices: np.ndarray, context: int
) -> dict[str, np.ndarray]:
    """Squared error at each of the H frames ahead, over pixels and over these windows, (H,) float64 each.

    Returns:
        "reconstructed", from the latent of the frame itself; "imagined"; and what is guessed without either:
        "last frame seen", which stays, and "mean frame", of training episodes.
    """
    sums: dict[str, Tensor] = {}
    for part in tqdm(np.array_split(indices, -(-len(indices) // 16)), desc="judge", leave=False):
        decoded = decode(model, decoder, windows.batch(part), context)
        guesses = {
            "reconstructed": decoded.reconstructed[:, context:],
            "imagined": decoded.imagined[:, context:],
            "last frame seen": decoded.true[:, context - 1 : context],
            "mean frame": decoder.mean_frame,
        }
        for name, guess in guesses.items():
            error = (guess - decoded.true[:, context:]).square().mean((2, 3, 4)).sum(0).double().cpu()
            sums[name] = sums.get(name, torch.zeros(1, dtype=torch.float64)) + error
    return {name: (total / len(indices)).numpy() for name, total in sums.items()}


def psnr(mse: float) -> float:
    """Peak signal-to-noise ratio in dB of a mean squared error of frames from 0 to 1; at most 100."""
    return -10 * math.log10(max(mse, 1e-10))

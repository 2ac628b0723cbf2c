"""What state probes read: latents, and what they are compared with; each frame is read once."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from sklearn.decomposition import PCA
from torch import Tensor, nn
from tqdm import tqdm

from ..config import Config
from ..data.shards import Store
from ..data.windows import Windows
from ..world_baselines import build_world_model
from ..world_model import WorldModel
from .untrained import await_statistics

BATCH = 128
# Pixels are averaged down to this side before PCA, which reads so many frames.
PCA_SIZE, PCA_FRAMES = 64, 4000

# Frames (n, H, W, 3) uint8 to features (n, D) float32.
Encoder = Callable[[Tensor], np.ndarray]


class Sample(NamedTuple):
    """Windows by number, and of each the features of its frames, (n, T, D), by the name of their source."""

    indices: np.ndarray
    features: dict[str, np.ndarray]


def encoders(model: WorldModel, config: Config, train: Windows, seed: int) -> dict[str, Encoder]:
    """By name: the model; the same before its first step; pixels through PCA, with as many components as a
    latent has numbers. The two others see training frames alone."""
    frames = Windows(train.store, np.unique(train.episodes), 1, 1)
    order = np.random.default_rng(seed).permutation(len(frames))[:PCA_FRAMES]
    return {
        "latent": _encoder(model),
        "untrained": _encoder(untrained(config, frames, order, next(model.parameters()).device)),
        "pixels, PCA": pixel_pca(frames, np.sort(order), config.model.latent, seed),
    }


def _encoder(model: WorldModel) -> Encoder:
    device = next(model.parameters()).device

    @torch.inference_mode()
    def encode(frames: Tensor) -> np.ndarray:
        return model.encode(frames.to(device)).float().cpu().numpy()

    return encode


@torch.no_grad()
def untrained(config: Config, frames: Windows, order: np.ndarray, device: torch.device) -> WorldModel:
    """The model before its first step, in evaluation mode, but for its BatchNorms: they take their statistics
    from training frames, as those of a trained encoder have."""
    # Initial weights are drawn on the CPU, where training drew them.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.train.seed)
        model = build_world_model(config, frames.store.action_dim).to(device)
    await_statistics(model)
    for part in np.array_split(order, max(1, len(order) // BATCH)):
        # A BatchNorm needs two.
        if len(part) > 1:
            model.encode(frames.batch(part)["pixels"][:, 0].to(device))
    return model.eval()


def pixel_pca(frames: Windows, indices: np.ndarray, components: int, seed: int) -> Encoder:
    """The first principal components of frames, as many as asked for or as there can be."""

    def flat(pixels: Tensor) -> np.ndarray:
        images = pixels.permute(0, 3, 1, 2).float()
        if images.shape[-1] > PCA_SIZE:
            images = nn.functional.adaptive_avg_pool2d(images, PCA_SIZE)
        return images.flatten(1).numpy()

    # Drawn and brought to their size in parts: whole, large frames would not fit in memory.
    parts = np.array_split(indices, max(1, len(indices) // BATCH))
    x = np.concatenate([flat(frames.batch(part)["pixels"][:, 0]) for part in parts])
    pca = PCA(min(components, *x.shape), svd_solver="randomized", random_state=seed).fit(x)
    return lambda pixels: pca.transform(flat(pixels)).astype(np.float32)


def read_windows(encode: dict[str, Encoder], windows: Windows, indices: np.ndarray, label: str) -> Sample:
    """Features of windows by number; a frame that several of them share is read and encoded once."""
    steps = windows.starts[indices][:, None] + np.arange(windows.frames) * windows.frameskip
    episodes = np.broadcast_to(windows.episodes[indices][:, None], steps.shape)
    pairs = np.stack([episodes.ravel(), steps.ravel()])
    (episode, step), place = np.unique(pairs, axis=1, return_inverse=True)
    features = encode_frames(encode, windows.store, episode, step, label)
    shape = (*steps.shape, -1)
    return Sample(indices, {name: values[place.ravel()].reshape(shape) for name, values in features.items()})


def encode_frames(
    encode: dict[str, Encoder], store: Store, episodes: np.ndarray, steps: np.ndarray, label: str
) -> dict[str, np.ndarray]:
    """Features (n, D) of frames by episode (n,) and step (n,)."""
    parts: dict[str, list[np.ndarray]] = {name: [] for name in encode}
    for part in tqdm(np.array_split(np.arange(len(steps)), -(-len(steps) // BATCH)), label, leave=False):
        pixels = torch.from_numpy(store.gather("pixels", episodes[part], steps[part][:, None])[:, 0])
        for name, function in encode.items():
            parts[name].append(function(pixels))
    return {name: np.concatenate(values) for name, values in parts.items()}

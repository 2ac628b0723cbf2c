"""Full fine-tuning: encoder and a linear layer trained on labels, from the weights that are there."""

import copy
import dataclasses

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from ..config import ImagesConfig
from ..data.images import Images
from ..data.views import MultiCrop
from ..image_jepa import ImageJEPA
from .image_probes import fit

BATCH = 256


def fine_tuned_accuracy(
    model: ImageJEPA,
    train: Images,
    test: Images,
    config: ImagesConfig,
    epochs: int,
    learning_rate: float,
    precision: torch.dtype,
    seed: int,
) -> float:
    """Accuracy in per cent on all test images after training on all training images with their labels: one
    global view of each as `config` draws them, AdamW, linear decay to 0. The model itself is left alone.

    Args:
        model: on its device.
        train, test: with labels.
        epochs: over the training images.
        learning_rate: AdamW's, at the start.
        precision: for autocast.
        seed: of the linear layer, the order and the views.
    """
    device = next(model.parameters()).device
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        head = nn.Linear(model.num_features, train.num_classes).to(device)
    tuned = nn.ModuleList([copy.deepcopy(model), head]).train()
    encoder: ImageJEPA = tuned[0]  # type: ignore[assignment]
    batch_size = min(BATCH, len(train))
    steps = epochs * (len(train) // batch_size)
    optimizer = torch.optim.AdamW([*encoder.encoder.parameters(), *head.parameters()], lr=learning_rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    views = MultiCrop(train, dataclasses.replace(config, global_views=1, local_views=0), device)
    batches = views.batches(batch_size, seed)
    half = precision != torch.float32
    for _ in tqdm(range(steps), desc="fine-tune", leave=False):
        batch = next(batches)
        with torch.autocast(device.type, precision, enabled=half):
            scores = head(encoder.features(batch["global"][0]))
        optimizer.zero_grad()
        nn.functional.cross_entropy(scores.float(), batch["label"].to(device)).backward()
        optimizer.step()
        schedule.step()

    tuned.eval()
    assert test.labels is not None
    right = 0
    with torch.inference_mode(), torch.autocast(device.type, precision, enabled=half):
        for part in np.array_split(np.arange(len(test)), -(-len(test) // BATCH)):
            pixels = fit(test.batch(part)["pixels"].to(device), model.image_size)
            right += int((head(encoder.features(pixels)).argmax(1).cpu().numpy() == test.labels[part]).sum())
    return 100 * right / len(test)

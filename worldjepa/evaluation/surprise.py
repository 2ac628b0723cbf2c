"""Surprise: how far the observed next latent is from the predicted one, where something impossible happens.

Violation of expectation as in LeWorldModel (arXiv 2603.19312, section 5.2 and appendix F.3), which prints no
formula: here it is the mean squared difference of the two latents, which is what the model is trained on.
"""

from typing import Any

import numpy as np
import torch
from scipy.stats import ttest_rel
from sklearn.metrics import roc_auc_score
from torch import Tensor
from tqdm import tqdm

from ..world_model import WorldModel

# Episodes encoded at once.
AT_ONCE = 8


@torch.inference_mode()
def surprise(model: WorldModel, frames: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """Of every frame but the first, from all the frames before it that the predictor can see.

    Args:
        model: in evaluation mode.
        frames: (E, T, H, W, 3) uint8. actions: (E, T-1, k·A), block j leads from frame j to frame j+1.

    Returns:
        (E, T-1) float64, entry t-1 that of frame t.
    """
    device, parts = next(model.parameters()).device, []
    for i in tqdm(range(0, len(frames), AT_ONCE), desc="surprise", leave=False):
        z = model.encode(torch.as_tensor(frames[i : i + AT_ONCE], device=device)).float()
        blocks = torch.as_tensor(actions[i : i + AT_ONCE], dtype=torch.float32, device=device)
        predicted = [_next(model, z, blocks, t) for t in range(1, z.shape[1])]
        errors = (torch.stack(predicted, 1).float() - z[:, 1:]).square().mean(-1)
        parts.append(errors.double().cpu().numpy())
    return np.concatenate(parts)


def _next(model: WorldModel, z: Tensor, blocks: Tensor, t: int) -> Tensor:
    """What the latents before frame t say of it, (E, D)."""
    first = max(0, t - model.context)
    return model.rollout(z[:, first:t], blocks[:, first : t - 1], blocks[:, t - 1 : t])[:, 0]


def compare(perturbed: np.ndarray, plain: np.ndarray) -> dict[str, float]:
    """Whether E surprises are larger than those of the same episodes unperturbed, (E,) each.

    Returns:
        "t" and "p" of a two-sided paired t-test; "auc", the probability that a perturbed episode's is larger
        than another's, which is the area under the ROC curve of a detector by surprise alone.
    """
    if (perturbed == plain).all():
        # As where a tint leaves a black frame black; the test has nothing to divide by.
        return {"t": 0.0, "p": 1.0, "auc": 0.5}
    test = ttest_rel(perturbed, plain)
    labels = np.repeat([1, 0], [len(perturbed), len(plain)])
    auc = roc_auc_score(labels, np.concatenate([perturbed, plain]))
    return {"t": float(test.statistic), "p": float(test.pvalue), "auc": float(auc)}


def summarise(surprises: dict[str, np.ndarray], at: int, jumps: dict[str, float]) -> dict[str, Any]:
    """Rows of the table and curves of the figure.

    Args:
        surprises: (E, T-1) by name, "unperturbed" among them. at: the perturbed frame, from 2.
        jumps: of some of them, how far bodies were put, in usual steps.

    Returns:
        "rows": by name the medians "before" (the frame before the perturbed one), "at" and "after" (the last
        frame), and of the perturbed ones what `compare` gives and "jump"; "curves": by name "low", "median"
        and "high", the quartiles over episodes, a list each of T-1.
    """
    moments = {"before": at - 2, "at": at - 1, "after": -1}
    rows: dict[str, dict[str, float]] = {}
    curves = {}
    for name, values in surprises.items():
        rows[name] = {moment: float(np.median(values[:, column])) for moment, column in moments.items()}
        if name != "unperturbed":
            rows[name] |= compare(values[:, at - 1], surprises["unperturbed"][:, at - 1])
        if name in jumps:
            rows[name]["jump"] = jumps[name]
        quartiles = np.percentile(values, [25, 50, 75], axis=0)
        curves[name] = dict(zip(("low", "median", "high"), quartiles.tolist(), strict=True))
    return {"rows": rows, "curves": curves}

"""Rivals of LeJEPA on images, each a loss in the same trainer on the same views, encoder and projector; and
LeJEPA with what it does without, a teacher and a predictor (Table 4 of arXiv 2511.08544)."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from .baselines import Averaged, all_samples, covariance, direction_error, nt_xent, variance, view_pairs
from .config import Config
from .distributed import global_mean
from .encoders import projector
from .image_jepa import ImageJEPA


class VICReg(ImageJEPA):
    """Invariance + variance + covariance (Bardes et al., arXiv 2105.04906, equation 6), its 25, 25, 1 divided
    by 25. As in the authors' code the distance is a mean over the dimensions and the variance term a mean
    over the views; with more than two views it is the mean over the pairs that hold a global one."""

    def objective(self, z: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        z = all_samples(z)
        pairs = view_pairs(len(z), len(batch["global"]))
        invariance = torch.stack([(z[i] - z[j]).square().mean() for i, j in pairs]).mean()
        spread, correlation = variance(z).mean(), 2 * covariance(z).mean()
        loss = invariance + self.rival.variance * spread + self.rival.covariance * correlation
        return {"loss": loss, "invariance": invariance, "variance": spread, "covariance": correlation}


class SimCLR(ImageJEPA):
    """Contrast with the batch's other images (Chen et al., arXiv 2002.05709, equation 1), the mean over the
    pairs of views that hold a global one."""

    def objective(self, z: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        z = all_samples(z)
        pairs = view_pairs(len(z), len(batch["global"]))
        return {"loss": torch.stack([nt_xent(z[i], z[j], self.rival.temperature) for i, j in pairs]).mean()}


class Unregularised(ImageJEPA):
    """The invariance alone: nothing keeps the latents from collapsing."""

    def objective(self, z: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        invariance = global_mean((z - z[: len(batch["global"])].mean(0)).square())
        return {"loss": invariance, "invariance": invariance}


class Supervised(ImageJEPA):
    """Cross-entropy of a linear layer on the encoder's features of the global views: the bound with labels.

    Args:
        classes: of the training images.
    """

    def __init__(self, config: Config, classes: int):
        super().__init__(config)
        # In the projector's place: what the loss reads is thrown away as usual.
        self.latent = classes
        self.projector = nn.Sequential(nn.Linear(self.encoder.num_last, classes))

    def objective(self, z: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        scores = z[: len(batch["global"])]
        labels = batch["label"].expand(len(scores), -1)
        loss = global_mean(
            nn.functional.cross_entropy(scores.flatten(0, 1), labels.flatten(), reduction="none")
        )
        return {"loss": loss, "accuracy": global_mean((scores.argmax(-1) == labels).float())}


class Taught(ImageJEPA):
    """LeJEPA with a teacher, a predictor or both: the target of every view is the mean of the global views'
    latents, from an averaged copy of encoder and projector where there is a teacher, and the views' latents
    go through an MLP on their way to it where there is a predictor. SIGReg stays.

    BYOL (Grill et al., arXiv 2006.07733) is both without SIGReg, by direction alone, and each view's target
    is each of the other global views.
    """

    teaches: ClassVar[bool] = True
    predicts: ClassVar[bool] = True

    def __init__(self, config: Config):
        super().__init__(config)
        hidden, latent = config.model.projector_hidden, config.model.latent
        self.predictor = projector(latent, hidden, latent) if self.predicts else nn.Identity()
        if self.teaches:
            self.teacher = Averaged([self.encoder, self.projector], self.rival.momentum)

    def targets(self, z: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Latents (V_g, B, D) of the global views that the others are compared with."""
        if not self.teaches:
            return z[: len(batch["global"])]
        if self.training:
            # Once a step: what the optimizer did in the last one.
            self.teacher.follow([self.encoder, self.projector])
        views = batch["global"]
        z_teacher = self.teacher(views.flatten(0, 1), last=True)
        return z_teacher.view(*views.shape[:2], -1).to(z.dtype)

    def predictions(self, z: Tensor) -> Tensor:
        return self.predictor(z.flatten(0, 1)).view_as(z)

    def objective(self, z: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        centre = self.targets(z, batch).mean(0)
        invariance = global_mean((self.predictions(z) - centre).square())
        sigreg = self.sigreg(z)
        loss = (1 - self.sigreg_weight) * invariance + self.sigreg_weight * sigreg
        return {"loss": loss, "invariance": invariance, "sigreg": sigreg}


class WithTeacher(Taught):
    predicts = False


class WithPredictor(Taught):
    teaches = False


class BYOL(Taught):
    __doc__ = Taught.__doc__

    def objective(self, z: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        targets, predicted = self.targets(z, batch), self.predictions(z)
        pairs = [(v, g) for g in range(len(targets)) for v in range(len(z)) if v != g]
        errors = [direction_error(predicted[v], targets[g]) for v, g in pairs]
        return {"loss": global_mean(torch.stack(errors))}


OBJECTIVES: dict[str, type[ImageJEPA]] = {
    "jepa": ImageJEPA,
    "teacher": WithTeacher,
    "predictor": WithPredictor,
    "teacher_predictor": Taught,
    "vicreg": VICReg,
    "simclr": SimCLR,
    "byol": BYOL,
    "none": Unregularised,
}


def build_image_model(config: Config, classes: int = 0) -> ImageJEPA:
    """The model that `model.objective` names; `classes` counts where it is supervised."""
    if config.model.objective == "supervised":
        return Supervised(config, classes)
    return OBJECTIVES[config.model.objective](config)

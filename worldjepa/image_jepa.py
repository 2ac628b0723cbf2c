"""LeJEPA on images: every view predicts the mean of the global views (arXiv 2511.08544, Algorithm 2)."""

import torch
from torch import Tensor, nn

from .config import Config
from .distributed import global_mean
from .encoders import Encoder, projector
from .errors import UserError
from .sigreg import EppsPulley, SIGReg


class ImageJEPA(nn.Module):
    """An encoder and a projector, trained on views of images: no predictor, no teacher, no stop-gradient.
    The projector serves the loss alone; what is used afterwards are the encoder's features.

    Args:
        config: `model`, and of `images` the views' sizes.

    Attributes:
        latent: D. num_features: F. image_size: side of a global view, in which images are looked at
            afterwards, pixels.

    Raises:
        UserError: the encoder is unknown, or does not take such views.
    """

    def __init__(self, config: Config):
        super().__init__()
        model, images = config.model, config.images
        self.latent, self.image_size = model.latent, images.global_size
        self.sigreg_weight, self.rival = model.sigreg.weight, model.rival
        sizes = {"images.global_size": images.global_size}
        if images.local_views:
            sizes["images.local_size"] = images.local_size
        self.encoder = Encoder(model.encoder, images.global_size, sizes)
        self.encoder.spare_memory(config.train)
        self.num_features = self.encoder.num_features
        self.projector = projector(self.encoder.num_last, model.projector_hidden, model.latent)
        self.sigreg = SIGReg(EppsPulley(model.sigreg.t_max, model.sigreg.knots), model.sigreg.num_slices)

    def features(self, images: Tensor, last: bool = False) -> Tensor:
        """Images (N, H, W, 3), or (N, H, W, 1) where grey, uint8 or floating, from 0 to 255, to the
        backbone's pooled features (N, F), or those of its `last` layer alone, the first of them.

        Raises:
            UserError: images of another shape.
        """
        if images.ndim != 4 or images.shape[-1] not in (1, 3):
            raise UserError(f"features: images are {tuple(images.shape)}, not (N, H, W, 3) or (N, H, W, 1)")
        return self.encoder(images, last)

    def project(self, features: Tensor) -> Tensor:
        """Features (N, F) to latents (N, D), from those of the encoder's last layer."""
        return self.projector(features[:, : self.encoder.num_last])

    def embed_views(self, views: list[Tensor]) -> Tensor:
        """Latents of views (V_i, B, h_i, w_i, C), in their order, (ΣV_i, B, D). Views of one size go through
        the encoder in one batch, and all of them together through the projector."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for index, group in enumerate(views):
            groups.setdefault(tuple(group.shape[2:]), []).append(index)
        features: dict[int, Tensor] = {}
        for indices in groups.values():
            together = self.features(torch.cat([views[i].flatten(0, 1) for i in indices]), last=True)
            parts = together.split([views[i].shape[0] * views[i].shape[1] for i in indices])
            features |= dict(zip(indices, parts, strict=True))
        z = self.project(torch.cat([features[i] for i in range(len(views))]))
        return z.view(-1, views[0].shape[1], self.latent)

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """What the trainer makes small: the `objective` of the views' latents.

        Args:
            batch: "global" (V, B, h, w, C) and maybe "local" views, from 0 to 255; "label" (B,) int64 where
                an objective takes it.

        Returns:
            scalars: "loss" and its parts.
        """
        z = self.embed_views([batch[name] for name in ("global", "local") if name in batch])
        return self.objective(z.to(torch.promote_types(z.dtype, torch.float32)), batch)

    def objective(self, z: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """(1 - λ) · invariance + λ · SIGReg, the mean over the views of SIGReg over the batch of each.

        The invariance is the mean over views, images and the D dimensions of the squared distance to the mean
        of the image's global views (equation 7 sums over the dimensions, Algorithm 2 takes the mean). SIGReg
        counts as at a batch of 128 images, whatever the batch is, where the paper multiplies by N.

        Args:
            z: (V, B, D) latents of the views, the global ones first, at least float32.
            batch: as of `loss`.

        Returns:
            scalars: "loss", and its parts "invariance" and "sigreg" (before λ).
        """
        centre = z[: len(batch["global"])].mean(0)
        invariance = global_mean((z - centre).square())
        sigreg = self.sigreg(z)
        loss = (1 - self.sigreg_weight) * invariance + self.sigreg_weight * sigreg
        return {"loss": loss, "invariance": invariance, "sigreg": sigreg}

"""The world model: encode, predict, rollout, and the loss of two terms (LeWorldModel, arXiv 2603.19312)."""

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn

from .config import Config
from .encoders import Encoder, projector
from .errors import UserError
from .notation import paths
from .predictor import ActionEncoder, Predictor
from .sigreg import EppsPulley, SIGReg


class WorldModel(nn.Module):
    """Encoder and action-conditioned predictor, trained end to end from pixels.

    Frame, latent and action block are aligned thus: action block j leads from frame j to frame j+1.

    Args:
        config: `model`, and of `data` the context and the frameskip.
        action_dim: A, size of one action; of several data sets (`data.path`) the largest.

    Attributes:
        latent: D. context: C, the most past frames the predictor takes. frameskip: k. action_dim: A.
        image_size: height and width of a frame in pixels.
    """

    def __init__(self, config: Config, action_dim: int):
        super().__init__()
        model = config.model
        self.latent, self.action_dim = model.latent, action_dim
        self.context, self.frameskip = config.data.context, config.data.frameskip
        self.image_size = config.env.image_size
        self.sigreg_weight = model.sigreg.weight
        self.encoder = Encoder(model.encoder, self.image_size)
        self.encoder.spare_memory(config.train)
        self.projector = projector(self.encoder.num_features, model.projector_hidden, model.latent)
        width, hidden = model.predictor.width, model.predictor.action_hidden
        several = len(paths(config.data.path)) > 1
        self.action_encoder = ActionEncoder(action_dim, self.frameskip, width, hidden, pads=several)
        self.predictor = Predictor(model.predictor, model.latent, self.context, model.projector_hidden)
        self.sigreg = SIGReg(EppsPulley(model.sigreg.t_max, model.sigreg.knots), model.sigreg.num_slices)

    def set_action_statistics(self, mean: np.ndarray, std: np.ndarray) -> None:
        """Mean and standard deviation of the training actions, (A,) each; saved with the weights."""
        self.action_encoder.mean.copy_(torch.as_tensor(mean))
        self.action_encoder.std.copy_(torch.as_tensor(std))

    def takes(self, action_dim: int) -> bool:
        """Whether actions of so many numbers can be given to it: its own; after training on several data
        sets fewer as well, without the zeros that follow."""
        fewer = self.action_encoder.pads and action_dim < self.action_dim
        return fewer or action_dim == self.action_dim

    def encode(self, frames: Tensor) -> Tensor:
        """Frames (..., H, W, 3) uint8 to latents (..., D).

        Raises:
            UserError: frames of another size or dtype than the model was made for.
        """
        size = (self.image_size, self.image_size, 3)
        if tuple(frames.shape[-3:]) != size or frames.dtype != torch.uint8:
            raise UserError(
                f"encode: frames are {frames.dtype} {tuple(frames.shape)}, "
                f"not uint8 (..., {size[0]}, {size[1]}, 3)"
            )
        z = self.projector(self.encoder(frames.reshape(-1, *size)))
        return z.reshape(*frames.shape[:-3], self.latent)

    def predict(self, z: Tensor, actions: Tensor) -> Tensor:
        """Latents (B, T, D), 1 ≤ T ≤ C, and action blocks (B, T, k·A) to predicted next latents (B, T, D).

        Raises:
            ValueError: there are more latents than the context, or not as many action blocks as latents.
        """
        if not 1 <= z.shape[1] <= self.context or actions.shape[1] != z.shape[1]:
            raise ValueError(
                f"predict takes 1 to {self.context} latents and as many action blocks, "
                f"not {z.shape[1]} and {actions.shape[1]}"
            )
        return self.predictor(z, self.action_encoder(actions))

    def rollout(self, z: Tensor, past: Tensor, actions: Tensor) -> Tensor:
        """Autoregressive prediction: every prediction is the next one's input. The predictor may have been
        given another dtype, as for planning in bfloat16; the latents keep theirs.

        Args:
            z: (B, T, D) latents seen, the last C are used; T ≥ 1.
            past: (B, T-1, k·A) action blocks between them.
            actions: (B, H, k·A) action blocks to come, or (B, S, H, k·A), S plans from the same past.

        Returns:
            (B, H, D) or (B, S, H, D), the latent after each of them.

        Raises:
            ValueError: `past` does not hold one block fewer than there are latents.
        """
        if z.shape[1] < 1 or past.shape[1] != z.shape[1] - 1:
            raise ValueError(
                f"{z.shape[1]} latents have {z.shape[1] - 1} action blocks between them, not {past.shape[1]}"
            )
        first = max(0, z.shape[1] - self.context)
        plans = actions if actions.ndim == 4 else actions[:, None]
        inputs = z[:, first:], self.action_encoder(past[:, first:]), self.action_encoder(plans)
        dtype = self.predictor.norm.weight.dtype
        ahead = self.predictor.rollout(*(x.to(dtype) for x in inputs)).to(z.dtype)
        return ahead if actions.ndim == 4 else ahead[:, 0]

    def prediction_error(self, z: Tensor, actions: Tensor) -> Tensor:
        """Mean squared error of the next latents, from latents (B, C+1, D) and action blocks (B, C, k·A)."""
        predicted = self.predict(z[:, :-1], actions)
        wide = torch.promote_types(z.dtype, torch.float32)
        return (predicted.to(wide) - z[:, 1:].to(wide)).square().mean()

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Next-latent prediction error + λ · SIGReg at each time step over the batch.

        No stop-gradient and no averaged encoder: SIGReg alone keeps the latents from collapsing. It counts as
        at a batch of 128 windows, for which LeWM publishes λ = 0.09, whatever the batch is.

        Args:
            batch: "pixels" (B, C+1, H, W, 3) uint8, "action" (B, C, k·A) float32.

        Returns:
            scalars: "loss", and its parts "prediction" and "sigreg" (before λ).
        """
        z = self.encode(batch["pixels"])
        prediction = self.prediction_error(z, batch["action"])
        sigreg = self.sigreg(rearrange(z, "b t d -> t b d"))
        return {"loss": prediction + self.sigreg_weight * sigreg, "prediction": prediction, "sigreg": sigreg}

"""Rivals of LeWorldModel's loss, in the same trainer, with the same encoder and predictor: what else keeps
latents that are learnt by prediction from collapsing."""

from itertools import pairwise

import torch
from einops import rearrange
from torch import Tensor, nn

from .baselines import Averaged, all_samples, covariance, variance
from .config import Config
from .distributed import global_mean
from .world_model import WorldModel


class Unregularised(WorldModel):
    """The prediction error alone."""

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        prediction = self.prediction_error(self.encode(batch["pixels"]), batch["action"])
        return {"loss": prediction, "prediction": prediction}


class Frozen(Unregularised):
    """The prediction error on latents of an encoder that stays as it was drawn, so nothing can collapse: what
    random features alone are good for. Their BatchNorm still takes up the statistics of the frames."""

    def __init__(self, config: Config, action_dim: int):
        super().__init__(config, action_dim)
        for module in (self.encoder, self.projector):
            module.requires_grad_(False)


class PLDM(WorldModel):
    """VICReg's variance and covariance at each time step over the batch, temporal smoothness and inverse
    dynamics (Sobal et al., arXiv 2502.14819, section 3.2). All terms are means over time, batch and
    dimensions; the actions that the inverse dynamics predict are standardised."""

    def __init__(self, config: Config, action_dim: int):
        super().__init__(config, action_dim)
        self.rival = config.model.rival
        hidden = config.model.projector_hidden
        self.inverse_dynamics = nn.Sequential(
            nn.Linear(2 * self.latent, hidden), nn.ReLU(), nn.Linear(hidden, self.frameskip * action_dim)
        )

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        z = self.encode(batch["pixels"])
        prediction = self.prediction_error(z, batch["action"])
        guessed = self.inverse_dynamics(torch.cat([z[:, :-1], z[:, 1:]], -1)).float()
        inverse = global_mean((guessed - self.action_encoder.standardise(batch["action"])).square())
        smoothness = global_mean((z[:, 1:] - z[:, :-1]).float().square())
        samples = all_samples(rearrange(z, "b t d -> t b d"))
        spread, correlation = variance(samples).mean(), covariance(samples).mean()
        loss = (
            prediction
            + self.rival.variance * spread
            + self.rival.covariance * correlation
            + self.rival.smoothness * smoothness
            + self.rival.inverse * inverse
        )
        return {
            "loss": loss,
            "prediction": prediction,
            "variance": spread,
            "covariance": correlation,
            "smoothness": smoothness,
            "inverse": inverse,
        }


class Taught(WorldModel):
    """Prediction of an averaged encoder's latents, without gradient (BYOL, arXiv 2006.07733, equation 1 for
    the average; I-JEPA and V-JEPA 2-AC train thus): no term against collapse."""

    def __init__(self, config: Config, action_dim: int):
        super().__init__(config, action_dim)
        self.teacher = Averaged([self.encoder, self.projector], config.model.rival.momentum)

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        if self.training:
            # Once a step: what the optimizer did in the last one.
            self.teacher.follow([self.encoder, self.projector])
        frames = batch["pixels"]
        predicted = self.predict(self.encode(frames[:, :-1]), batch["action"])
        targets = self.teacher(frames.flatten(0, 1)).view(*frames.shape[:2], -1)[:, 1:]
        prediction = global_mean((predicted.float() - targets.float()).square())
        return {"loss": prediction, "prediction": prediction}


class Decoded(WorldModel):
    """Every latent has to tell its frame: prediction error + weight · squared error of a decoder's frames, in
    units of the range of a pixel, as pixel-reconstructing world models do (Dreamer, arXiv 1912.01603)."""

    def __init__(self, config: Config, action_dim: int):
        super().__init__(config, action_dim)
        self.reconstruction_weight = config.model.rival.reconstruction
        # Half the encoder's channels: with as many it would take about eight times as long as the encoder.
        width = max(1, config.model.encoder.width // 2)
        self.decoder = FrameDecoder(self.latent, self.image_size, width)

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        z = self.encode(batch["pixels"])
        prediction = self.prediction_error(z, batch["action"])
        frames = batch["pixels"].flatten(0, 1).permute(0, 3, 1, 2) / 255
        reconstruction = global_mean((self.decoder(z.flatten(0, 1)).float() - frames).square())
        loss = prediction + self.reconstruction_weight * reconstruction
        return {"loss": loss, "prediction": prediction, "reconstruction": reconstruction}


class FrameDecoder(nn.Sequential):
    """Latents (N, D) to frames (N, 3, H, W) from 0 to 1: a linear map to an 8th of the side, then three
    stages that double it."""

    def __init__(self, latent: int, image_size: int, width: int):
        side = -(-image_size // 8)
        layers: list[nn.Module] = [nn.Linear(latent, 8 * width * side**2), nn.Unflatten(1, (-1, side, side))]
        channels = [8 * width, 4 * width, 2 * width, width]
        for c_in, c_out in pairwise(channels):
            layers += [Doubling(c_in, c_out), nn.BatchNorm2d(c_out), nn.ReLU(inplace=True)]
        # Where the side is no multiple of 8 the last stage is a little too large.
        fit = nn.AdaptiveAvgPool2d(image_size) if image_size % 8 else nn.Identity()
        super().__init__(*layers, fit, nn.Conv2d(width, 3, 3, padding=1))


class Doubling(nn.Conv2d):
    """(N, C, H, W) to (N, C', 2H, 2W): every pixel four times, then a convolution of 3 × 3. Both are one
    transposed convolution of stride 2, whose 4 × 4 kernel takes the sums of the 3 × 3 one over 2 × 2 pixels:
    less than half the products, and the larger image is never made."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__(c_in, c_out, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        padded = nn.functional.pad(self.weight.flip(2, 3).transpose(0, 1), (1, 1, 1, 1))
        kernel = nn.functional.avg_pool2d(padded, 2, stride=1, divisor_override=1)
        return nn.functional.conv_transpose2d(x, kernel, stride=2, padding=1)


OBJECTIVES: dict[str, type[WorldModel]] = {
    "jepa": WorldModel,
    "pldm": PLDM,
    "ema": Taught,
    "decoder": Decoded,
    "none": Unregularised,
    "frozen": Frozen,
}


def build_world_model(config: Config, action_dim: int) -> WorldModel:
    """The model that `model.objective` names."""
    return OBJECTIVES[config.model.objective](config, action_dim)

"""A small ResNet for small images."""

from itertools import pairwise

import torch
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut; where `stride` is 2, both halve the image."""

    def __init__(self, c_in: int, c_out: int, stride: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(c_out),
            nn.ReLU(inplace=True),
            nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(c_out),
        )
        self.shortcut = nn.Sequential()
        if stride > 1 or c_in != c_out:
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(stride, ceil_mode=True),
                nn.Conv2d(c_in, c_out, 1, bias=False),
                nn.BatchNorm2d(c_out),
            )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


class ResNetEncoder(nn.Module):
    """A small ResNet for small images of any size from 16 on: the image is halved by the first convolution
    and by three of four residual blocks, and what is left is averaged.

    Args:
        width: channels of the first block; 1, 2, 4 and 8 times as many are those of the four.
        layers: features are the averages of so many last blocks, the last one's first.
        deviations: and behind them their standard deviations over positions, in the same order (statistics
            pooling).

    Attributes:
        num_last: channels of the last block, the first so many features.
    """

    smallest, depth = 16, 4

    def __init__(self, width: int, layers: int = 1, deviations: bool = False):
        super().__init__()
        channels = [width, width, 2 * width, 4 * width, 8 * width]
        self.layers, self.deviations = layers, deviations
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 4, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        self.blocks = nn.ModuleList(
            ResidualBlock(c_in, c_out, 1 if index == 0 else 2)
            for index, (c_in, c_out) in enumerate(pairwise(channels))
        )
        self.num_features, self.num_last = (1 + deviations) * sum(channels[-layers:]), channels[-1]
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor, last: bool = False) -> Tensor:
        """(B, 3, H, W) to (B, num_features), or to the averages of the `last` block alone, (B, num_last)."""
        x, outputs = self.stem(x), []
        for block in self.blocks:
            x = block(x)
            outputs.append(x)
        if last:
            return x.mean((2, 3))
        shown = outputs[: -self.layers - 1 : -1]
        pooled = [y.mean((2, 3)) for y in shown]
        if self.deviations:
            # Of a map without variance the square root has no gradient.
            pooled += [(y.var((2, 3), correction=0) + 1e-5).sqrt() for y in shown]
        return torch.cat(pooled, 1)

"""Linear layers for planning on a CPU: matrices laid out once as oneDNN reads them, GELU done on the way."""

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_linear_bn_eval

# How many rows the layout is chosen for: the order of size of candidates in one product.
ROWS = 512


class PackedLinear(nn.Module):
    """A linear layer, and the exact GELU after it where there is one, that has no gradients.

    torch multiplies float32 with MKL by default, and hands bfloat16 to oneDNN, which then brings the matrix
    into its own layout at each call. The operations used here are those of torch's own compiler.

    Args:
        linear: on a CPU, float32 or bfloat16.
        gelu: whether GELU follows.
    """

    def __init__(self, linear: nn.Linear, gelu: bool = False):
        super().__init__()
        self.matrix = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), ROWS)
        self.bias = None if linear.bias is None else linear.bias.detach()
        self.after, self.algorithm = ("gelu", "none") if gelu else ("none", "")

    def forward(self, x: Tensor) -> Tensor:
        """(..., n) to (..., m)."""
        return torch.ops.mkldnn._linear_pointwise(x, self.matrix, self.bias, self.after, [], self.algorithm)


def pack(module: nn.Module) -> None:
    """Pack all linear layers inside a module that is in evaluation mode, in place; where there is no oneDNN,
    or none for its dtype on this CPU, or the module is not on a CPU, nothing changes. Outputs are the same to
    rounding."""
    if not all(p.device.type == "cpu" and _packs(p.dtype) for p in module.parameters()):
        return
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Sequential):
            setattr(module, name, _packed_sequence(list(child)))
        elif isinstance(child, nn.Linear):
            setattr(module, name, PackedLinear(child))
        else:
            pack(child)


def _packs(dtype: torch.dtype) -> bool:
    """Whether oneDNN is here, and lays out such matrices: bfloat16 takes AVX-512, or AVX-NE-CONVERT."""
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return False
    return dtype != torch.bfloat16 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _packed_sequence(layers: list[nn.Module]) -> nn.Sequential:
    """Linear, BatchNorm and GELU are one step, or linear and GELU; dropout, at rest, is none."""
    packed: list[nn.Module] = []
    while layers:
        layer = layers.pop(0)
        if isinstance(layer, nn.Linear):
            if layers and isinstance(layers[0], nn.BatchNorm1d):
                layer = fuse_linear_bn_eval(layer, layers[0])
                layers.pop(0)
            gelu = bool(layers) and isinstance(layers[0], nn.GELU) and layers[0].approximate == "none"
            packed.append(PackedLinear(layer, gelu=gelu))
            if gelu:
                layers.pop(0)
        elif not isinstance(layer, nn.Dropout):
            packed.append(layer)
    return nn.Sequential(*packed)

"""Models before their first step, for whatever training has to be compared with."""

from torch import nn


def await_statistics(model: nn.Module) -> None:
    """Evaluation mode, but for the BatchNorms: from what the model is shown next they take their statistics,
    the plain mean over all batches, as those of a trained model are of its training data. `model.eval()`
    ends it."""
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.training, module.momentum = True, None

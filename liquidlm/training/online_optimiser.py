"""The optimiser of a learner without end: the updates of Muon and AdamW, in little memory.

`torch.optim` imports torch's compiler with its first optimiser, which takes 65 MB and a second.
"""

import torch
from torch import Tensor

from ..model.language_model import LiquidLanguageModel
from .groups import ADAM, parameter_groups
from .muon import orthogonalized

ADAM_SHARE = 0.15
"""AdamW's rate, as a fraction of Muon's."""
MOMENTUM = 0.95
"""Of Muon."""
EPS = 1e-8
WARM_UP = 10
"""Updates over which the rate rises."""
SETTLED, LEAST = 100, 0.1
"""After this many updates the rate begins to fall, down to this share of it."""


def rate_factor(update: int) -> float:
    """The learning rate of an update, as a share of the peak: it rises, falls, and stays above LEAST.

        >>> [round(rate_factor(update), 2) for update in (0, 9, 99, 399, 99999)]
        [0.1, 1.0, 1.0, 0.5, 0.1]

    Args:
        update: its number; the first is 0.
    """
    falls = min(1.0, (SETTLED / (update + 1)) ** 0.5)
    return min(1.0, (update + 1) / WARM_UP) * max(LEAST, falls)


class OnlineOptimiser:
    """Updates of a model's parameters at the rate `rate` · `rate_factor`, without weight decay.

    Args:
        model: its parameters are changed in place.
        rate: peak learning rate of Muon; AdamW's is ADAM_SHARE of it, times the share of the group.

    Attributes:
        tensors: the momenta of the parameters, by name: `muon.NAME`, `mean.NAME` and `square.NAME`.
        updates: number of updates so far.
    """

    def __init__(self, model: LiquidLanguageModel, rate: float):
        groups = parameter_groups(model)
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        self.rate, self.updates = rate, 0
        self.tensors: dict[str, Tensor] = {}
        self._matrices = [(names[id(one)], one) for one in groups.matrices]
        shares = [(groups.others, 1.0), *groups.quick]
        self._others = [(names[id(one)], one, share) for some, share in shares for one in some]

    @torch.no_grad()
    def step(self) -> None:
        """Update all parameters that have a gradient."""
        rate = self.rate * rate_factor(self.updates)
        self.updates += 1
        for name, matrix in self._matrices:
            if matrix.grad is not None:
                self._muon(name, matrix, matrix.grad, rate)
        for name, parameter, share in self._others:
            if parameter.grad is not None:
                self._adam(name, parameter, parameter.grad, rate * ADAM_SHARE * share)

    def _of(self, name: str, like: Tensor) -> Tensor:
        if name not in self.tensors:
            self.tensors[name] = torch.zeros_like(like)
        return self.tensors[name]

    def _muon(self, name: str, matrix: Tensor, grad: Tensor, rate: float) -> None:
        """See `Muon`."""
        momentum = self._of(f"muon.{name}", matrix)
        momentum.lerp_(grad, 1 - MOMENTUM)
        change = orthogonalized(grad.lerp(momentum, MOMENTUM)[None])[0]
        rows, columns = matrix.shape
        matrix.add_(change, alpha=-rate * max(1.0, rows / columns) ** 0.5)

    def _adam(self, name: str, parameter: Tensor, grad: Tensor, rate: float) -> None:
        """See AdamW (arXiv 1711.05101)."""
        of_mean, of_square = ADAM["betas"]
        mean, square = self._of(f"mean.{name}", parameter), self._of(f"square.{name}", parameter)
        mean.lerp_(grad, 1 - of_mean)
        square.lerp_(grad * grad, 1 - of_square)
        root = (square / (1 - of_square**self.updates)).sqrt_().add_(EPS)
        parameter.addcdiv_(mean, root, value=-rate / (1 - of_mean**self.updates))

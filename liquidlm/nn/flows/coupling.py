"""The affine coupling of Real NVP, with nets that several layers may share."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ...errors import LiquidError
from ...runtime.offload import at_hand
from ...runtime.precision import full_precision, linear
from ..arguments import check_whole


class CouplingNets(nn.Module):
    """The nets ŝ, t̂: R^⌊D/2⌋ → R^⌈D/2⌉ of a coupling, as one perceptron with two outputs.

    A layer adapts them to itself by a scale γ and a shift β of the hidden features,
    (ŝ, t̂) = W₂ silu(γ ⊙ W₁x_a + β) + b₂: feature-wise modulation (Perez et al. 2018, FiLM).
    """

    def __init__(self, input_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.input_dim, self.hidden_dim = input_dim, hidden_dim
        kept = input_dim // 2
        self.encode = nn.Linear(kept, hidden_dim, bias=False)
        self.decode = nn.Linear(hidden_dim, 2 * (input_dim - kept))

    def forward(
        self, x_a: Float[Tensor, "... a"], scale: Float[Tensor, " f"], shift: Float[Tensor, " f"]
    ) -> tuple[Float[Tensor, "... b"], Float[Tensor, "... b"]]:
        features = F.silu(torch.addcmul(shift, linear(self.encode, x_a), scale))
        s, t = linear(self.decode, features).chunk(2, dim=-1)
        return s, t


class SharedAffineCouplingLayer(nn.Module):
    """Affine coupling: y_a = x_a, y_b = x_b ⊙ e^{s(x_a)} + t(x_a), with s = c ⊙ tanh(ŝ).

    Its Jacobian is triangular, so log|det ∂y/∂x| = Σ s, and it inverts exactly:
    x_b = (y_b − t(y_a)) ⊙ e^{−s(y_a)} (Dinh et al. 2017, Real NVP).

    x_a has ⌊D/2⌋ coordinates and x_b the other ⌈D/2⌉: the first ones are kept, or the last ones with
    `swap`. The sizes are the same either way, so layers of both kinds can share their nets, and two of
    them transform every coordinate, whether D is even or odd.

    Args:
        input_dim: D ≥ 2.
        hidden_dim: width of the nets.
        shared_nets: the `shared_nets` of another layer of the same sizes, to hold the same parameters;
            None for nets of its own. The bound c and the modulation of the nets are always its own.
        swap: keep the last coordinates and transform the first.

    Raises:
        LiquidError: sizes too small, or `shared_nets` of other sizes.
    """

    def __init__(
        self, input_dim: int, hidden_dim: int, shared_nets: CouplingNets | None = None, *, swap: bool = False
    ) -> None:
        super().__init__()
        check_whole(2, input_dim=input_dim)
        check_whole(hidden_dim=hidden_dim)
        nets = CouplingNets(input_dim, hidden_dim) if shared_nets is None else shared_nets
        if (nets.input_dim, nets.hidden_dim) != (input_dim, hidden_dim):
            raise LiquidError(
                f"shared_nets are of input_dim {nets.input_dim} and hidden_dim {nets.hidden_dim}, the layer "
                f"of {input_dim} and {hidden_dim}: share nets between layers of the same sizes only."
            )
        self.input_dim, self.swap = input_dim, swap
        self.shared_nets = nets
        self.feature_scale = nn.Parameter(torch.ones(hidden_dim))
        self.feature_shift = nn.Parameter(torch.randn(hidden_dim) / 2)  # so that no two layers start alike
        self.stretch_bound = nn.Parameter(torch.ones(input_dim - input_dim // 2))

    def forward(self, x: Float[Tensor, "... d"]) -> tuple[Float[Tensor, "... d"], Float[Tensor, "..."]]:
        """(..., D) ↦ y (..., D) and log|det ∂y/∂x| (...)."""
        with full_precision(x) as x:
            x_a, x_b = self._halves(x)
            s, t = self._stretch_and_shift(x_a)
            return self._join(x_a, torch.addcmul(t, x_b, s.exp())), s.sum(dim=-1)

    def inverse(self, y: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        """The x of which y is the image."""
        with full_precision(y) as y, at_hand(self):
            y_a, y_b = self._halves(y)
            s, t = self._stretch_and_shift(y_a)
            return self._join(y_a, (y_b - t) * (-s).exp())

    def _stretch_and_shift(
        self, x_a: Float[Tensor, "... a"]
    ) -> tuple[Float[Tensor, "... b"], Float[Tensor, "... b"]]:
        s, t = self.shared_nets(x_a, self.feature_scale.to(x_a), self.feature_shift.to(x_a))
        return self.stretch_bound.to(x_a) * s.tanh(), t

    def _halves(self, x: Float[Tensor, "... d"]) -> tuple[Float[Tensor, "... a"], Float[Tensor, "... b"]]:
        if x.shape[-1] != self.input_dim:
            raise LiquidError(f"The coupling is of input_dim {self.input_dim}, its input of {x.shape[-1]}.")
        kept = self.input_dim // 2
        if self.swap:
            x_b, x_a = x.split((self.input_dim - kept, kept), dim=-1)
        else:
            x_a, x_b = x.split((kept, self.input_dim - kept), dim=-1)
        return x_a, x_b

    def _join(self, a: Float[Tensor, "... a"], b: Float[Tensor, "... b"]) -> Float[Tensor, "... d"]:
        return torch.cat((b, a) if self.swap else (a, b), dim=-1)

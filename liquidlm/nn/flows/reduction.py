"""Dimension reduction by a flow: a bijection whose first coordinates are kept."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...errors import LiquidError
from ...runtime.offload import at_hand
from ...runtime.precision import full_precision
from ..arguments import check_whole
from .coupling import CouplingNets, SharedAffineCouplingLayer


class HouseholderMixing(nn.Module):
    """Orthogonal mixing x ↦ xW, W = H₁⋯H_K with Householder reflections H_k = I − 2v_k v_kᵀ/‖v_k‖².

    In compact WY form W = I + V S Vᵀ with S⁻¹ = −striu(VᵀV) − ½ diag(VᵀV) (Schreiber & Van Loan 1989;
    as a flow: Tomczak & Welling 2016). Compared with a full matrix in PLU form (Glow) it costs 2K/D of the
    products, log|det W| is 0, and the inverse is the transpose: exact, and well conditioned for any V.
    """

    def __init__(self, dim: int, num_reflections: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(dim, num_reflections))

    def forward(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        v, s_vt = self._factors(x)
        return x + (x @ v) @ s_vt

    def inverse(self, y: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        with at_hand(self):
            v, s_vt = self._factors(y)
        return y + (y @ s_vt.mT) @ v.mT

    def _factors(self, x: Float[Tensor, "... d"]) -> tuple[Float[Tensor, "d k"], Float[Tensor, "k d"]]:
        """V and S Vᵀ in the precision of x."""
        v = self.vectors.to(x)
        gram = v.mT @ v
        return v, torch.linalg.solve_triangular(gram.diagonal().diag() / 2 - gram.triu(), v.mT, upper=True)


class OptimizedFlowDimensionalityReduction(nn.Module):
    """A bijection of R^E, num_flows × (orthogonal mixing, affine coupling), split into z and r.

    z, the first Z coordinates, is the reduced form; r, the other E − Z, is set aside. With r the inverse
    is exact; without it r is taken to be its learned mean r̄, and the result is the point over z of the
    learned manifold {f⁻¹(z, r̄)} (Real NVP: Dinh et al. 2017; manifolds by flows: Brehmer & Cranmer 2020).
    All couplings share one pair of nets. Runs in float32, or in float64 if its input is.

    Args:
        original_dim: E ≥ 2.
        latent_dim: Z, 1 ≤ Z ≤ E.
        hidden_dim: width of the couplings' nets.
        num_flows: number of mixings and of couplings.

    Raises:
        LiquidError: sizes out of these ranges.
    """

    def __init__(self, original_dim: int, latent_dim: int, hidden_dim: int = 128, num_flows: int = 4) -> None:
        super().__init__()
        check_whole(2, original_dim=original_dim)
        check_whole(latent_dim=latent_dim, hidden_dim=hidden_dim, num_flows=num_flows)
        if not 1 <= latent_dim <= original_dim:
            raise LiquidError(
                f"latent_dim is {latent_dim}: choose it from 1 to original_dim, {original_dim}."
            )
        self.original_dim, self.latent_dim = original_dim, latent_dim
        # Z reflections in all can turn any Z-dimensional subspace onto the coordinates that are kept.
        reflections = min(original_dim, max(8, -(-latent_dim // num_flows)))
        nets = CouplingNets(original_dim, hidden_dim)
        self.mixings = nn.ModuleList(HouseholderMixing(original_dim, reflections) for _ in range(num_flows))
        self.couplings = nn.ModuleList(
            SharedAffineCouplingLayer(original_dim, hidden_dim, nets, swap=i % 2 == 1)
            for i in range(num_flows)
        )
        for coupling in self.couplings[1:]:  # the nets are the first one's part: every weight has one name
            coupling.__dict__["shared_nets"] = coupling._modules.pop("shared_nets")
        self.residual_mean = nn.Parameter(torch.zeros(original_dim - latent_dim))

    def forward(self, x: Float[Tensor, "... e"]) -> tuple[Float[Tensor, "... z"], Float[Tensor, "..."]]:
        """(..., E) ↦ z (..., Z) and log|det| (...) of the whole bijection."""
        z, _, log_det = self.split(x)
        return z, log_det

    def split(
        self, x: Float[Tensor, "... e"]
    ) -> tuple[Float[Tensor, "... z"], Float[Tensor, "... r"], Float[Tensor, "..."]]:
        """(..., E) ↦ z (..., Z), r (..., E−Z) and log|det ∂(z, r)/∂x| (...)."""
        if x.shape[-1] != self.original_dim:
            raise LiquidError(f"The flow is of original_dim {self.original_dim}, its input of {x.shape[-1]}.")
        with full_precision(x) as y:
            log_det = y.new_zeros(y.shape[:-1])
            for mixing, coupling in zip(self.mixings, self.couplings, strict=True):
                y, stretch = coupling(mixing(y))
                log_det = log_det + stretch
            z, residual = y.split((self.latent_dim, self.original_dim - self.latent_dim), dim=-1)
            return z, residual, log_det

    def inverse(
        self, z: Float[Tensor, "... z"], residual: Float[Tensor, "... r"] | None = None
    ) -> Float[Tensor, "... e"]:
        """z (..., Z) and r (..., E−Z) ↦ x (..., E), exactly; without r the point of the manifold over z."""
        with full_precision(z) as z:
            if residual is None:
                with at_hand(self):
                    residual = self.residual_mean.to(z).expand(*z.shape[:-1], -1)
            sizes = z.shape[-1], residual.shape[-1]
            if sizes != (self.latent_dim, self.original_dim - self.latent_dim):
                raise LiquidError(
                    f"z and residual are of {sizes[0]} and {sizes[1]} coordinates: this flow has "
                    f"{self.latent_dim} and {self.original_dim - self.latent_dim}."
                )
            y = torch.cat((z, residual.to(z)), dim=-1)
            for mixing, coupling in zip(reversed(self.mixings), reversed(self.couplings), strict=True):
                y = mixing.inverse(coupling.inverse(y))  # pyright: ignore[reportCallIssue]
            return y

"""Dimension reduction by a flow: a bijection of which the first coordinates are kept."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...errors import LiquidError
from ...runtime.offload import at_hand
from ...runtime.precision import full_precision
from ..arguments import check_integers
from .coupling import CouplingNets, SharedAffineCouplingLayer


class HouseholderMixing(nn.Module):
    """An orthogonal mixing of coordinates by K Householder reflections.

        y = xW,    W = H₁⋯H_K,    H_k = I − 2v_k v_kᵀ/‖v_k‖²

    Computed in compact WY form, W = I + V S Vᵀ with S⁻¹ = −striu(VᵀV) − ½ diag(VᵀV) (Schreiber & Van Loan
    1989; as a flow: Tomczak & Welling 2016, arXiv:1611.09630). Compared with a full matrix in PLU form
    (Kingma & Dhariwal 2018, "Glow", arXiv:1807.03039) it needs 2K/D of the products. log|det W| is 0. The
    inverse is the transpose: exact and well conditioned for every V.

    Args:
        dim: D.
        num_reflections: K.

    Example:
        >>> mixing = HouseholderMixing(6, 3)
        >>> x = torch.randn(2, 6)
        >>> torch.testing.assert_close(mixing(x).norm(dim=-1), x.norm(dim=-1))
        >>> torch.testing.assert_close(mixing.inverse(mixing(x)), x)
    """

    def __init__(self, dim: int, num_reflections: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(dim, num_reflections))

    def forward(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        """x (…, D) ▶ xW (…, D)."""
        v, s_vt = self._factors(x)
        return x + (x @ v) @ s_vt

    def inverse(self, y: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        """y (…, D) ▶ yWᵀ (…, D), the x with xW = y."""
        with at_hand(self):
            v, s_vt = self._factors(y)
        return y + (y @ s_vt.mT) @ v.mT

    def _factors(self, x: Float[Tensor, "... d"]) -> tuple[Float[Tensor, "d k"], Float[Tensor, "k d"]]:
        """V and S Vᵀ in the precision of x."""
        v = self.vectors.to(x)
        gram = v.mT @ v
        return v, torch.linalg.solve_triangular(gram.diagonal().diag() / 2 - gram.triu(), v.mT, upper=True)


class OptimizedFlowDimensionalityReduction(nn.Module):
    """A bijection f of R^E whose result is split into z, which is kept, and r.

        f = num_flows × (orthogonal mixing, affine coupling),    f(x) = (z, r),    z ∈ R^Z,  r ∈ R^{E−Z}

    With r the inverse is exact. Without r the inverse uses the learned mean r̄ of r. The result is then the
    point that belongs to z on the learned manifold {f⁻¹(z, r̄)} (couplings: Dinh et al. 2017, "Real NVP",
    arXiv:1605.08803; manifolds by flows: Brehmer & Cranmer 2020, arXiv:2003.13913). All couplings share their
    nets. Computed in float32, or in float64 for a float64 input.

    Args:
        original_dim: E ≥ 2.
        latent_dim: Z, 1 ≤ Z ≤ E.
        hidden_dim: the width of the nets of the couplings.
        num_flows: the number of mixings and of couplings.

    Raises:
        LiquidError: a size out of these ranges.

    Example:
        With z and r the inverse gives back the input. With z alone it gives a point with the same z.

        >>> flow = OptimizedFlowDimensionalityReduction(original_dim=8, latent_dim=3)
        >>> x = torch.randn(2, 8)
        >>> z, r, log_det = flow.split(x)
        >>> z.shape, r.shape, log_det.shape
        (torch.Size([2, 3]), torch.Size([2, 5]), torch.Size([2]))
        >>> torch.testing.assert_close(flow.inverse(z, r), x, rtol=1e-4, atol=1e-4)
        >>> again, _ = flow(flow.inverse(z))
        >>> torch.testing.assert_close(again, z, rtol=1e-4, atol=1e-4)
    """

    def __init__(self, original_dim: int, latent_dim: int, hidden_dim: int = 128, num_flows: int = 4) -> None:
        super().__init__()
        check_integers(2, original_dim=original_dim)
        check_integers(latent_dim=latent_dim, hidden_dim=hidden_dim, num_flows=num_flows)
        if not 1 <= latent_dim <= original_dim:
            raise LiquidError(f"latent_dim is {latent_dim}: choose it from 1 to original_dim, {original_dim}")
        self.original_dim, self.latent_dim = original_dim, latent_dim
        # Z reflections in total can turn every Z-dimensional subspace onto the coordinates that are kept.
        reflections = min(original_dim, max(8, -(-latent_dim // num_flows)))
        nets = CouplingNets(original_dim, hidden_dim)
        self.mixings = nn.ModuleList(HouseholderMixing(original_dim, reflections) for _ in range(num_flows))
        self.couplings = nn.ModuleList(
            SharedAffineCouplingLayer(original_dim, hidden_dim, nets, swap=i % 2 == 1)
            for i in range(num_flows)
        )
        for coupling in self.couplings[
            1:
        ]:  # registered in the first coupling only: every weight has one name
            coupling.__dict__["shared_nets"] = coupling._modules.pop("shared_nets")
        self.residual_mean = nn.Parameter(torch.zeros(original_dim - latent_dim))

    def forward(self, x: Float[Tensor, "... e"]) -> tuple[Float[Tensor, "... z"], Float[Tensor, "..."]]:
        """x (…, E) ▶ z (…, Z) and log|det ∂(z, r)/∂x| (…).

        Raises:
            LiquidError: x of another size.
        """
        z, _, log_det = self.split(x)
        return z, log_det

    def split(
        self, x: Float[Tensor, "... e"]
    ) -> tuple[Float[Tensor, "... z"], Float[Tensor, "... r"], Float[Tensor, "..."]]:
        """x (…, E) ▶ z (…, Z), r (…, E−Z) and log|det ∂(z, r)/∂x| (…).

        Raises:
            LiquidError: x of another size.
        """
        if x.shape[-1] != self.original_dim:
            raise LiquidError(
                f"the input has {x.shape[-1]} coordinates: the flow has original_dim {self.original_dim}"
            )
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
        """z (…, Z) and r (…, E−Z) ▶ x (…, E), exactly; without r the point of the manifold that belongs to z.

        Raises:
            LiquidError: z or r of another size.
        """
        with full_precision(z) as z:
            if residual is None:
                with at_hand(self):
                    residual = self.residual_mean.to(z).expand(*z.shape[:-1], -1)
            sizes = z.shape[-1], residual.shape[-1]
            if sizes != (self.latent_dim, self.original_dim - self.latent_dim):
                raise LiquidError(
                    f"z and residual have {sizes[0]} and {sizes[1]} coordinates: give"
                    f" {self.latent_dim} and {self.original_dim - self.latent_dim}"
                )
            y = torch.cat((z, residual.to(z)), dim=-1)
            for mixing, coupling in zip(reversed(self.mixings), reversed(self.couplings), strict=True):
                y = mixing.inverse(coupling.inverse(y))  # pyright: ignore[reportCallIssue]
            return y

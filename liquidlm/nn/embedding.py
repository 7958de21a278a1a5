"""The embedding stage: token ids ▶ continuous, reduced and evolved vectors."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from ..errors import LiquidError
from ..runtime.offload import at_hand, execution_device
from ..runtime.precision import full_precision, linear
from ..runtime.traced import fails
from .arguments import check_whole
from .flows import OptimizedFlowDimensionalityReduction
from .ode import ODEFunc, check_method, integrate

FLOW_LOSS_IDS = 1024
"""The flow's training term is taken over at most so many of a batch's ids, drawn anew each time."""

UNMET_IDS = 256
"""So many of the vocabulary are put to the ids of a batch where the output layer is the embedding's table."""

FIRST_GAIN = 0.1
"""Scale of x at the start: the residual stream of an untrained model is soon the blocks' own."""


class OptimizedLiquidEmbeddingMFR(nn.Module):
    """ids ▶ embedding (V×E) ▶ flow E→Z ▶ w_e: Z→H ▶ ODEFunc over t_span ▶ gain ⊙ · = x (H).

    The result depends on the token alone: it is computed once for each distinct id of a batch and
    gathered, and at inference the whole stage folds into one V×H table (`fold`). At the start the ODE's
    result has coordinates of unit scale for the default t_span, and the gain, learned per coordinate, makes
    them small beside what the blocks add.

    Args:
        vocab_size: V.
        embedding_dim: E ≥ 2.
        latent_dim: Z, 1 ≤ Z ≤ E.
        hidden_size: H.
        flow_hidden_dim: width of the nets in the flow's couplings.
        num_flows: number of mixings and couplings of the flow.
        decay_factor, adaptive_factor: δ and κ of `ODEFunc`.
        method: ODE method, see `integrate`.

    Raises:
        LiquidError: sizes out of these ranges.
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_dim: int,
        latent_dim: int,
        hidden_size: int,
        *,
        flow_hidden_dim: int = 128,
        num_flows: int = 4,
        decay_factor: float = 0.1,
        adaptive_factor: float = 0.01,
        method: str = "rk4",
    ) -> None:
        super().__init__()
        check_whole(vocab_size=vocab_size, embedding_dim=embedding_dim, hidden_size=hidden_size)
        check_method(method)
        self.method = method
        self.embedding = nn.Embedding(vocab_size, embedding_dim)  # N(0, 1)
        self.flow = OptimizedFlowDimensionalityReduction(
            embedding_dim, latent_dim, flow_hidden_dim, num_flows
        )
        self.w_e = nn.Linear(latent_dim, hidden_size)
        nn.init.normal_(self.w_e.weight, std=0.35 * latent_dim**-0.5)  # the ODE makes it 1
        nn.init.zeros_(self.w_e.bias)
        self.ode = ODEFunc(nn.LayerNorm(hidden_size), decay_factor, adaptive_factor)
        self.gain = nn.Parameter(torch.full((hidden_size,), FIRST_GAIN))

    @property
    def vocab_size(self) -> int:
        """V, that of the table."""
        return self.embedding.num_embeddings

    def forward(
        self,
        input_ids: Int[Tensor, "b t"],
        attention_mask: Shaped[Tensor, "b t"] | None = None,
        t_span: Tensor | None = None,
        *,
        return_flow_loss: bool = False,
    ) -> (
        tuple[Float[Tensor, "b t h"], Float[Tensor, "b t"]]
        | tuple[Float[Tensor, "b t h"], Float[Tensor, "b t"], Float[Tensor, ""]]
    ):
        """x (B,T,H) and log|det| of the flow (B,T), both 0 where the mask is.

        Args:
            input_ids: token ids (B,T), in 0…V−1.
            attention_mask: (B,T), 0 at padding; None: no padding.
            t_span: times of the ODE, 1-D; None: five from 0 to 1.
            return_flow_loss: the third result is `flow_loss(input_ids)`, without running the flow again.

        Raises:
            LiquidError: an id outside the vocabulary, a mask of another shape, or a bad t_span.
        """
        table, index, log_det, flow_loss = self.distinct(
            input_ids, attention_mask, t_span, flow_loss=return_flow_loss
        )
        x = F.embedding(index, table)
        if attention_mask is not None:
            x = x.masked_fill((attention_mask == 0)[..., None], 0)
        return (x, log_det) if flow_loss is None else (x, log_det, flow_loss)

    def distinct(
        self,
        input_ids: Int[Tensor, "b t"],
        attention_mask: Shaped[Tensor, "b t"] | None = None,
        t_span: Tensor | None = None,
        *,
        flow_loss: bool = False,
        flow_ids: Int[Tensor, "..."] | None = None,
    ) -> tuple[Float[Tensor, "n h"], Int[Tensor, "b t"], Float[Tensor, "b t"], Float[Tensor, ""] | None]:
        """x of each distinct id, where to find every token's among them, log|det|, and the flow's term.

        For the caller who gathers x part by part: it never exists whole. `flow_ids` are those that the flow's
        term is taken over, if not those of `input_ids`.
        """
        self.check_ids(input_ids)
        if attention_mask is not None and attention_mask.shape != input_ids.shape:
            raise LiquidError(
                f"attention_mask is {tuple(attention_mask.shape)} and input_ids {tuple(input_ids.shape)}: "
                "give both of shape (B, T)."
            )
        given = input_ids.flatten()
        if flow_loss and flow_ids is not None:
            given = torch.cat([given, flow_ids.flatten()])
        ids, index = distinct_ids(given, anyway=flow_loss)
        index, of_flow = index[: input_ids.numel()].view_as(input_ids), index[input_ids.numel() :]
        rows = self._rows(ids)
        z, log_det = self.flow(rows)
        log_det_at, some = log_det[index], torch.arange(len(ids), device=ids.device)
        if attention_mask is not None:
            padding = attention_mask == 0
            log_det_at, some = log_det_at.masked_fill(padding, 0), index[~padding].unique()
        if len(of_flow):
            some = of_flow.unique()
        loss = None
        if flow_loss:
            if len(some) > FLOW_LOSS_IDS:
                some = some[torch.randperm(len(some), device=ids.device)[:FLOW_LOSS_IDS]]
            loss = self.flow.loss(rows[some], z[some], log_det[some]) if len(some) else 0.0 * z.sum()
        if len(of_flow):  # the flow's own ids go no further
            used, index = index.unique(return_inverse=True)
            z = z[used]
        return self._evolve(z, t_span), index, log_det_at, loss

    def flow_loss(self, input_ids: Int[Tensor, "b t"]) -> Float[Tensor, ""]:
        """The flow's training term (`OptimizedFlowDimensionalityReduction.loss`) over the distinct ids."""
        self.check_ids(input_ids)
        rows = self._rows(input_ids.unique())
        return self.flow.loss(rows, *self.flow(rows))

    @torch.no_grad()
    def fold(self, t_span: Tensor | None = None, batch_size: int = 1024) -> Float[Tensor, "v h"]:
        """The stage as one table: row i is x of id i. No gradient; batch_size rows at a time."""
        slices = self._whole().split(batch_size)
        return torch.cat([self._evolve(self.flow(rows)[0], t_span) for rows in slices])

    def _whole(self) -> Float[Tensor, "v e"]:
        """The whole table, as the layer gives it: with what an adapter adds, from where it is kept."""
        device = execution_device(self.embedding) or self.embedding.weight.device
        return self._rows(torch.arange(self.vocab_size, device=device))

    def _rows(self, ids: Int[Tensor, " n"]) -> Float[Tensor, "n e"]:
        """Of these ids, as one sequence: hooks of the layer (NEFTune's noise) look for its length."""
        return self.embedding(ids[None])[0]

    @torch.no_grad()
    def round_trip_survival(self, batch_size: int = 1024) -> float:
        """Share of the ids that embedding ▶ z ▶ inverse(z) ▶ nearest embedding brings back, in 0…1."""
        with full_precision(self._whole()) as table:
            squares = table.square().sum(dim=-1)
            survivors = 0
            for ids in torch.arange(self.vocab_size, device=table.device).split(batch_size):
                z, _ = self.flow(table[ids])
                # ‖x − w‖² = ‖x‖² − 2⟨x, w⟩ + ‖w‖², and ‖x‖² is the same for every w
                distances = torch.addmm(squares, self.flow.inverse(z), table.mT, alpha=-2)
                survivors += int((distances.argmin(dim=-1) == ids).sum())
            return survivors / self.vocab_size

    def _evolve(self, z: Float[Tensor, "n z"], t_span: Tensor | None) -> Float[Tensor, "n h"]:
        """x = gain ⊙ e(t_last) with e(t_first) = w_e(z), in the type of the embedding."""
        times = torch.linspace(0, 1, 5) if t_span is None else t_span
        with full_precision(z) as z:
            x = integrate(self.ode, linear(self.w_e, z), times, self.method)
            with at_hand(self):
                x = self.gain.to(z) * x
        return x.to(self.embedding.weight.dtype)

    def check_ids(self, input_ids: Int[Tensor, "b t"]) -> None:
        if input_ids.ndim != 2 or input_ids.is_floating_point():
            raise LiquidError(
                f"input_ids are {input_ids.dtype} of shape {tuple(input_ids.shape)}: give integers of "
                "shape (B, T); a single sequence is input_ids[None]."
            )
        outside = (input_ids < 0) | (input_ids >= self.vocab_size)
        if fails(outside.any(), "token ids outside the vocabulary"):
            row, position = outside.nonzero()[0].tolist()
            raise LiquidError(
                f"Token id {input_ids[row, position].item()} at row {row}, position {position} is outside "
                f"0…{self.vocab_size - 1}: the model's vocab_size, {self.vocab_size}, must be at least the "
                "tokenizer's (LED has 50265)."
            )


def distinct_ids(ids: Int[Tensor, " n"], anyway: bool) -> tuple[Int[Tensor, " m"], Int[Tensor, " n"]]:
    """Each id once, and where to find every one among them. In a traced graph, whose sizes are those of what
    goes in, every id as often as it comes, unless they are wanted once `anyway`."""
    if torch.compiler.is_compiling() and not anyway:
        return ids, torch.arange(len(ids), device=ids.device)
    found, index = torch.unique(ids, return_inverse=True)
    return found, index


def and_unmet(ids: Int[Tensor, "..."], vocab_size: int) -> Int[Tensor, " n"]:
    """The ids, and UNMET_IDS drawn from the vocabulary: a tied output layer moves the row of every token,
    and the flow is to follow those that are never read, too. Whoever has the same ids draws the same."""
    draw = torch.Generator("cpu").manual_seed(int(ids.sum()))
    others = torch.randint(vocab_size, (UNMET_IDS,), generator=draw, device="cpu")
    return torch.cat([ids.flatten(), others.to(ids)])

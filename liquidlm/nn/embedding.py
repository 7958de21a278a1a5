"""The embedding stage: token ids ▶ embeddings ▶ reduced by a flow ▶ evolved by an ODE."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from ..errors import LiquidError
from ..runtime.offload import at_hand, execution_device
from ..runtime.precision import full_precision, linear
from ..runtime.traced import fails
from .arguments import check_integers
from .flows import OptimizedFlowDimensionalityReduction, flow_loss, sampled_flow_loss
from .ode import ODEFunc, integrate
from .ode_methods import check_method

RANDOM_IDS = 256
"""How many random ids `with_random_ids` adds to the ids of a batch."""

FIRST_GAIN = 0.1
"""The initial gain: it keeps x small compared with what the blocks add."""


@dataclass(frozen=True)
class TokenVectors:
    """The result of the embedding stage: one vector per distinct id, and the row of each token.

    Attributes:
        table: (N, H) x of each distinct id.
        index: (B, T) the row of each token in the table.
        log_det: (B, T) log|det| of the flow, 0 where padded; None if a folded table was used.
        flow_loss: the training term of the flow, if requested.
    """

    table: Float[Tensor, "n h"]
    index: Int[Tensor, "b t"]
    log_det: Float[Tensor, "b t"] | None = None
    flow_loss: Float[Tensor, ""] | None = None

    def x(self, part: slice = slice(None)) -> Float[Tensor, "b t h"]:
        """x (B, T, H) of the tokens at the given positions; without `part`, of all."""
        return F.embedding(self.index[:, part], self.table)


class OptimizedLiquidEmbeddingMFR(nn.Module):
    """Token ids ▶ vectors x that the blocks read.

        ids ▶ embedding (V×E) ▶ flow E→Z ▶ w_e: Z→H ▶ ODEFunc over t_span ▶ gain ⊙ · = x (H)

    x depends on the token alone. It is computed once per distinct id of a batch. For inference the whole
    stage folds into one V×H table (`fold`). At the start the coordinates of the ODE's result have unit scale
    for the default t_span. The gain, learned per coordinate, makes them small compared with what the blocks
    add.

    Sources: `OptimizedFlowDimensionalityReduction` and `ODEFunc`.

    Args:
        vocab_size: V.
        embedding_dim: E ≥ 2.
        latent_dim: Z, 1 ≤ Z ≤ E.
        hidden_size: H.
        flow_hidden_dim: the width of the nets of the flow.
        num_flows: the number of mixings and couplings of the flow.
        decay_factor, adaptive_factor: δ and κ of `ODEFunc`.
        method: the ODE solver, see `integrate`.

    Raises:
        LiquidError: a size out of these ranges, or an unknown method.

    Example:
        The folded table gives the same vectors as the stage itself.

        >>> stage = OptimizedLiquidEmbeddingMFR(vocab_size=20, embedding_dim=8, latent_dim=4, hidden_size=6)
        >>> ids = torch.tensor([[3, 7, 3]])
        >>> x, log_det = stage(ids)
        >>> x.shape, log_det.shape
        (torch.Size([1, 3, 6]), torch.Size([1, 3]))
        >>> torch.testing.assert_close(stage.fold()[ids], x)
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
        check_integers(vocab_size=vocab_size, embedding_dim=embedding_dim, hidden_size=hidden_size)
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
        """V, the number of rows of the table."""
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
        """x (B, T, H) and log|det| of the flow (B, T), both 0 where padded.

        Args:
            input_ids: (B, T) token ids, in 0…V−1.
            attention_mask: (B, T), 0 at padding; None: no padding.
            t_span: (n,) times of the ODE; None: five times from 0 to 1.
            return_flow_loss: return the training term of the flow as a third result.

        Raises:
            LiquidError: an id outside the vocabulary, a mask of another shape, or a bad t_span.
        """
        found = self.distinct(input_ids, attention_mask, t_span, with_flow_loss=return_flow_loss)
        x, log_det = found.x(), found.log_det
        if attention_mask is not None:
            x = x.masked_fill((attention_mask == 0)[..., None], 0)
        assert log_det is not None
        return (x, log_det) if found.flow_loss is None else (x, log_det, found.flow_loss)

    def distinct(
        self,
        input_ids: Int[Tensor, "b t"],
        attention_mask: Shaped[Tensor, "b t"] | None = None,
        t_span: Tensor | None = None,
        *,
        with_flow_loss: bool = False,
        flow_ids: Int[Tensor, "..."] | None = None,
    ) -> TokenVectors:
        """x of each distinct id of a batch. The caller gathers (B, T, H) in parts, to save memory.

        Args:
            input_ids, attention_mask, t_span: as for `forward`.
            with_flow_loss: also compute the training term of the flow.
            flow_ids: the ids from which this term is computed; None: the ids of the batch, without padding.

        Raises:
            LiquidError: as for `forward`.
        """
        self._check(input_ids, attention_mask)
        given, extra = input_ids.flatten(), input_ids.new_empty(0)
        if with_flow_loss and flow_ids is not None:
            extra = flow_ids.flatten()
        ids, found = distinct_ids(torch.cat([given, extra]), anyway=with_flow_loss)
        index, of_flow = found[: len(given)].view_as(input_ids), found[len(given) :]
        rows = self._rows(ids)
        z, log_det = self.flow(rows)
        padding = None if attention_mask is None else attention_mask == 0
        log_det_at = log_det[index] if padding is None else log_det[index].masked_fill(padding, 0)
        loss = None
        if with_flow_loss:
            if len(of_flow):
                counted = of_flow.unique()
            else:
                counted = (
                    torch.arange(len(ids), device=ids.device) if padding is None else index[~padding].unique()
                )
            loss = sampled_flow_loss(self.flow, rows, z, log_det, counted)
        if len(of_flow):  # ids that only the flow needs are not evolved
            used, index = index.unique(return_inverse=True)
            z = z[used]
        return TokenVectors(self._evolve(z, t_span), index, log_det_at, loss)

    def flow_loss(self, input_ids: Int[Tensor, "b t"]) -> Float[Tensor, ""]:
        """The training term of the flow (`liquidlm.nn.flows.flow_loss`) for the distinct ids.

        Raises:
            LiquidError: an id outside the vocabulary.
        """
        self.check_ids(input_ids)
        rows = self._rows(input_ids.unique())
        return flow_loss(self.flow, rows, *self.flow(rows))

    @torch.no_grad()
    def fold(self, t_span: Tensor | None = None, batch_size: int = 1024) -> Float[Tensor, "v h"]:
        """The stage as one table (V, H): row i is x of id i. Without gradient.

        Args:
            t_span: as for `forward`.
            batch_size: how many rows are computed at a time.
        """
        slices = self._full_table().split(batch_size)
        return torch.cat([self._evolve(self.flow(rows)[0], t_span) for rows in slices])

    def _full_table(self) -> Float[Tensor, "v e"]:
        """The rows of all ids, by a call of the layer: adapters and offloading are taken into account."""
        device = execution_device(self.embedding) or self.embedding.weight.device
        return self._rows(torch.arange(self.vocab_size, device=device))

    def _rows(self, ids: Int[Tensor, " n"]) -> Float[Tensor, "n e"]:
        """The rows of these ids. One sequence: hooks of the layer (NEFTune) read its length."""
        return self.embedding(ids[None])[0]

    @torch.no_grad()
    def round_trip_survival(self, batch_size: int = 1024) -> float:
        """The share of ids, in 0…1, that come back: embedding ▶ z ▶ inverse(z) ▶ nearest embedding.

        Args:
            batch_size: how many ids are computed at a time.
        """
        with full_precision(self._full_table()) as table:
            squares = table.square().sum(dim=-1)
            survivors = 0
            for ids in torch.arange(self.vocab_size, device=table.device).split(batch_size):
                z, _ = self.flow(table[ids])
                # ‖x − w‖² = ‖x‖² − 2⟨x, w⟩ + ‖w‖², and ‖x‖² is the same for every w
                distances = torch.addmm(squares, self.flow.inverse(z), table.mT, alpha=-2)
                survivors += int((distances.argmin(dim=-1) == ids).sum())
            return survivors / self.vocab_size

    def _evolve(self, z: Float[Tensor, "n z"], t_span: Tensor | None) -> Float[Tensor, "n h"]:
        """x = gain ⊙ e(last time) with e(first time) = w_e(z), in the type of the embedding."""
        times = torch.linspace(0, 1, 5) if t_span is None else t_span
        with full_precision(z) as z:
            x = integrate(self.ode, linear(self.w_e, z), times, self.method)
            with at_hand(self):
                x = self.gain.to(z) * x
        return x.to(self.embedding.weight.dtype)

    def _check(self, input_ids: Int[Tensor, "b t"], attention_mask: Shaped[Tensor, "b t"] | None) -> None:
        self.check_ids(input_ids)
        if attention_mask is not None and attention_mask.shape != input_ids.shape:
            raise LiquidError(
                f"attention_mask has shape {tuple(attention_mask.shape)} and input_ids"
                f" {tuple(input_ids.shape)}: give both the shape (B, T)"
            )

    def check_ids(self, input_ids: Int[Tensor, "b t"]) -> None:
        """Check that every id is a row of the table.

        Raises:
            LiquidError: ids that are not integers of shape (B, T), or an id outside 0…V−1.
        """
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
    """The distinct ids, and the index of each id among them.

    In a traced graph sizes must not depend on data. There the ids are returned unchanged, repeated ones too,
    unless `anyway` is true.
    """
    if torch.compiler.is_compiling() and not anyway:
        return ids, torch.arange(len(ids), device=ids.device)
    found, index = torch.unique(ids, return_inverse=True)
    return found, index


def with_random_ids(ids: Int[Tensor, "..."], vocab_size: int) -> Int[Tensor, " n"]:
    """The ids and RANDOM_IDS random ids of the vocabulary, for the training term of the flow.

    A model with a tied output layer trains the rows of all tokens in every step, also of tokens that are not
    in the batch. The flow must follow these rows too. The same ids always give the same random ids.
    """
    draw = torch.Generator("cpu").manual_seed(int(ids.sum()))
    others = torch.randint(vocab_size, (RANDOM_IDS,), generator=draw, device="cpu")
    return torch.cat([ids.flatten(), others.to(ids)])

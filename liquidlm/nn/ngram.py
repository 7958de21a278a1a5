"""Embeddings of the last few tokens together: a lookup costs almost no arithmetic."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from .arguments import check_integers
from .cells.conv import last_inputs
from .events import Events

PRIME, FACTOR = 2**31 - 1, 742_938_285
"""Constants of the hash (Fishman & Moore 1986). Both are below 2³¹: no product overflows 64 bits."""


class NGramEmbedding(nn.Module):
    """An embedding of the last n tokens, for each n from 2 to N.

        x_t = Σ_n W_n table_n[hash(the last n tokens)],    n = 2…N

    (Huang et al. 2025, "Over-Tokenized Transformer", arXiv:2501.16975; hashed as in Pagnoni et al. 2024,
    "Byte Latent Transformer", arXiv:2412.09871.) A lookup reads a few rows, however large the table
    is.

    The tokens i_1 … i_n use row h_n mod `rows`, with h_j = (h_{j−1}·FACTOR + i_{n−j+1} + 1) mod PRIME and
    h_0 = 0. A position before the first token of a document counts as i + 1 = 0. Different n-grams can share
    a row.

    Args:
        hidden_size: H.
        rows: the number of rows per n.
        dim: the size of a row.
        longest: N ≥ 2.

    Raises:
        LiquidError: a size out of these ranges.
    """

    def __init__(self, hidden_size: int, rows: int = 16384, dim: int = 24, longest: int = 4):
        super().__init__()
        check_integers(hidden_size=hidden_size, rows=rows, dim=dim)
        check_integers(2, longest=longest)
        self.rows, self.longest = rows, longest
        self.table = nn.Embedding(rows * (longest - 1), dim)
        self.proj = nn.Linear(dim * (longest - 1), hidden_size, bias=False)
        nn.init.zeros_(self.table.weight)
        nn.init.normal_(self.proj.weight, std=0.1)

    def forward(
        self, ids: Int[Tensor, "b t"], events: Events, past: Int[Tensor, "b w"]
    ) -> tuple[Float[Tensor, "b t h"], Int[Tensor, "b w"]]:
        """What the last tokens add to the embedding of each token (B, T, H), and the new past (B, N−1).

        Args:
            ids: (B, T) token ids.
            events: where documents start, and which positions are padded.
            past: (B, N−1) the last tokens of the current document before ids, each as i + 1; 0 for none.
        """
        grams = torch.cat([past, ids + 1], 1).unfold(1, self.longest, 1).flip(-1)  # the token itself first
        if events.segment is not None:
            number = F.pad(events.segment, (self.longest - 1, 0)).unfold(1, self.longest, 1).flip(-1)
            grams = grams * (number == number[..., :1])
        return self.proj(self.table(self.slots(grams)).flatten(-2)), self.after(ids, events, past)

    def after(self, ids: Int[Tensor, "b t"], events: Events, past: Int[Tensor, "b w"]) -> Int[Tensor, "b w"]:
        """The past after these tokens."""
        return last_inputs((ids + 1)[..., None], events, past[..., None])[..., 0]

    def slots(self, grams: Int[Tensor, "*b n"]) -> Int[Tensor, "*b w"]:
        """The rows of the table (…, N−1) for the last 2, 3, …, N tokens.

        Args:
            grams: (…, N) the last N tokens, the newest first, each as i + 1.
        """
        hashed, slots = grams[..., 0] % PRIME, []
        for n in range(1, self.longest):
            hashed = (hashed * FACTOR + grams[..., n]) % PRIME
            slots.append(hashed % self.rows + (n - 1) * self.rows)
        return torch.stack(slots, -1)

    def no_past(self, batch: int, device: torch.device) -> Int[Tensor, "b w"]:
        """The past before the first token: all 0."""
        return torch.zeros(batch, self.longest - 1, dtype=torch.long, device=device)

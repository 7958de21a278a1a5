"""The mixer over time whose cell is nonlinear in its state: it can count without drift."""

from .time_cell import ImprovedLiquidTimeCell
from .time_mixer import TimeMixer


class NonlinearMixer(TimeMixer):
    """A `TimeMixer` whose time cell has the context c = silu(W [u, tanh h]), H wide.

        u = conv(x)  ▶  ImprovedLiquidTimeCell(context="state")  ▶  h

    Rate and drive of an event depend on the state before it. With these fixed, the state relaxes exactly over
    the event's duration (one step of exponential Euler). Such a state can have attractors. It can count
    without the drift of a product of linear steps, and it can track products of groups that no diagonal
    linear recurrence can express (Merrill et al. 2024, "The Illusion of State", arXiv:2404.08819).

    The cost: events are computed one after the other. On a processor with the kernels of `liquidlm.ops` a
    training step of the mixer takes about twice as long as that of a `TimeMixer`; without them and on a GPU
    it is several times slower. It keeps more for the backward pass. The mixer has about twice the parameters
    of a `TimeMixer`. Two gaps compose only approximately.

    Arguments, shapes and `forward` are those of `TimeMixer`.

    Example:
        Events read in two parts give the same as events read at once.

        >>> import torch
        >>> mixer = NonlinearMixer(8).eval()
        >>> x, times = torch.randn(1, 5, 8), torch.tensor([[0.0, 1.0, 1.0, 4.0, 9.0]])
        >>> whole, _ = mixer(x, times)
        >>> first, _, state = mixer(x[:, :3], times[:, :3], return_state=True)
        >>> second, _ = mixer(x[:, 3:], times[:, 3:], state)
        >>> torch.testing.assert_close(torch.cat([first, second], 1), whole)
    """

    def _cell(self, dropout_rate: float) -> ImprovedLiquidTimeCell:
        return ImprovedLiquidTimeCell(self.hidden_size, dropout_rate, "state", self.hidden_size)

"""AsyncLiquidCell: the attention is the memory's read, exactly; keys, writes and leaks of the memory."""

import pytest
import torch
import torch.nn.functional as F
from helpers import HIDDEN, LEFT, MIXED, RIGHT, error, event_times, inputs, mixer, normal, padded

from liquidlm.errors import LiquidError
from liquidlm.nn.cells import AsyncLiquidCell, TimeMixer
from liquidlm.nn.cells.async_cell import leak_rate, write_strength
from liquidlm.nn.events import Events
from liquidlm.ops import delta_memory


def events_of(cell, timestamps, **marks):
    """(events, fresh state) of float64 events at these times."""
    state = cell.initial_state(len(timestamps), torch.float64, torch.device("cpu"))
    length = timestamps.shape[1]
    return Events.build(timestamps, state.time, length=length, dtype=torch.float64, **marks), state


def test_attention_weights_are_the_memorys_reads_and_causal():
    cell, (x, times) = mixer(AsyncLiquidCell), inputs(3, 40)
    starts = torch.zeros(3, 40, dtype=torch.bool)
    starts[1, 10] = starts[2, 33] = True
    _, weights = cell(x, times, starts=starts, need_weights=True)
    events, zero = events_of(cell, times, start=starts)
    reads = cell.reads(cell.conv(x, events, zero.conv)[0], events)
    o, _ = delta_memory(*reads, zero.memory)
    assert weights.shape == (3, 2, 40, 40)
    assert error(torch.einsum("bnij,bjnp->binp", weights, reads.v), o) < 1e-12
    assert weights.triu(1).abs().max() == 0 and (weights.diagonal(dim1=2, dim2=3) != 0).double().mean() > 0.9
    assert weights[1, :, 10:, :10].abs().max() == 0 and weights[2, :, 33:, :33].abs().max() == 0
    assert weights[0, :, 10:, :10].abs().max() > 1e-3


def test_attention_weights_are_causal_with_padding_on_any_side():
    cell, (x, times) = mixer(AsyncLiquidCell), inputs(3, 12)
    mask = torch.tensor([LEFT, RIGHT, MIXED]).bool()
    _, exact = cell(x, times, need_weights=True)
    wide, wide_times = padded(x, times, mask)
    _, weights = cell(wide, wide_times, None, mask, need_weights=True)
    for i in range(3):
        assert error(weights[i][:, mask[i]][:, :, mask[i]], exact[i]) < 1e-12
    assert weights.triu(1).abs().max() == 0
    assert weights.transpose(1, 2)[~mask].abs().max() == 0 and weights.movedim(3, 1)[~mask].abs().max() == 0


def test_no_weights_unless_asked_for_or_without_a_memory():
    x, times = inputs(1, 5)
    assert mixer(AsyncLiquidCell)(x, times)[1] is None
    assert mixer(TimeMixer)(x, times, need_weights=True)[1] is None


def test_keys_are_unit_and_rates_and_strengths_reach_their_ends():
    cell, times = mixer(AsyncLiquidCell), event_times(2, 10)
    u = 5 * normal(2, 10, HIDDEN, seed=3)
    with torch.no_grad():
        cell.rates.weight[0] *= 20  # to where softplus is under 10⁻⁴
    reads = cell.reads(u, events_of(cell, times)[0])
    leak, beta = F.softplus(cell.rates(u)).chunk(2, -1)
    assert error(reads.k.norm(dim=-1), torch.ones(2, 10, 2).double()) < 1e-12
    assert error(reads.write, (2.2 * (1 - torch.exp(-beta)) - 0.1).clamp(0, 2)) < 1e-12
    assert (reads.write == 2).any() and (reads.write == 0).any()
    leak = (leak - 1e-4).clamp(min=0)
    assert error(reads.log_decay[:, 1:], -leak[:, 1:] * times.diff(dim=1)[..., None]) < 1e-12
    assert (leak == 0).any() and (leak > 0).any()
    assert reads.log_decay[:, 0].isneginf().all()  # the first event of all starts a document


def test_initial_leaks_of_the_memory_are_log_uniform_over_five_decades():
    heads = 64
    cell = AsyncLiquidCell(heads, 0.0, num_heads=heads).double()
    events, _ = events_of(cell, torch.arange(200).expand(4, 200))
    log_decay = cell.reads(normal(4, 200, heads), events).log_decay[:, 1:]
    logarithm = (-1 / log_decay.mean((0, 1))).log10()
    for decile in range(1, 10):
        assert logarithm.quantile(decile / 10).item() == pytest.approx(0.5 * decile, abs=0.15)


def test_writes_of_an_event_are_events_at_its_time():
    """Two writes per event, against one write per event with every event there twice, its Δ = 0."""
    cell, (x, times) = mixer(AsyncLiquidCell, num_writes=2), inputs(3, 21)
    events, zero = events_of(cell, times)
    reads, heads = cell.reads(x, events), cell.num_heads
    q, k1, k2, v1, v2 = F.silu(cell.qkv(x)).unflatten(-1, (5, heads, -1)).unbind(2)
    leak, first, second = cell.rates(x).unflatten(-1, (3, heads)).unbind(2)
    memory, o = zero.memory, []
    for i in range(21):
        decay = (
            torch.zeros(3, heads).double()
            if i == 0
            else torch.exp(-leak_rate(leak[:, i]) * events.gap[:, i, None])
        )
        memory = decay[..., None, None] * memory
        for k, v, strength in ((k1, v1, first), (k2, v2, second)):
            k, v, eta = F.normalize(k[:, i], dim=-1), v[:, i], write_strength(strength[:, i])[..., None]
            read = torch.einsum("bnk,bnkp->bnp", k, memory)
            memory = memory + torch.einsum("bnk,bnp->bnkp", eta * k, v - read)
        o.append(torch.einsum("bnk,bnkp->bnp", F.normalize(q[:, i], dim=-1), memory))
    fast, after = delta_memory(*reads, zero.memory, 16)
    assert error(fast[:, 1::2], torch.stack(o, 1)) < 1e-11 and error(after, memory) < 1e-11


def test_weights_of_several_writes_are_the_reads():
    cell, (x, times) = mixer(AsyncLiquidCell, num_writes=3), inputs(2, 13)
    events, zero = events_of(cell, times)
    _, weights = cell(x, times, need_weights=True)
    reads = cell.reads(cell.conv(x, events, zero.conv)[0], events)
    o, _ = delta_memory(*reads, zero.memory)
    v = reads.v.unflatten(1, (13, 3)).flatten(2, 3)
    parts = torch.einsum("bnij,bjnp->binp", weights, v)
    assert weights.shape == (2, 6, 13, 13) and weights.triu(1).abs().max() == 0
    assert error(parts.unflatten(2, (3, 2)).sum(2), o[:, 2::3]) < 1e-12


def test_a_state_with_a_memory_and_one_without_are_not_exchanged():
    x = normal(2, 6, HIDDEN)
    with_memory, without = mixer(AsyncLiquidCell), mixer(TimeMixer)
    for cell, other in ((with_memory, without), (without, with_memory)):
        with pytest.raises(LiquidError, match="memory"):
            cell(x, None, other(x, return_state=True)[2])


def test_heads_are_at_least_64_wide_by_default_and_divide_the_hidden_size():
    sizes = (8, 64, 192, 200, 256)
    assert [AsyncLiquidCell(size).num_heads for size in sizes] == [1, 1, 3, 2, 4]


@pytest.mark.parametrize(
    "options",
    [{"num_heads": 3}, {"num_heads": 0}, {"num_writes": 0}, {"chunk_size": 0}, {"conv_width": 0}],
    ids=str,
)
def test_impossible_sizes_are_refused(options):
    with pytest.raises(LiquidError):
        AsyncLiquidCell(HIDDEN, **options)

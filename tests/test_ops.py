"""The fast forms against the loops that define them, and the memory's physics against matrix exponentials."""

import pytest
import torch
import torch.nn.functional as F
from helpers import error, gradients, normal, uniform
from hypothesis import given, settings
from hypothesis import strategies as st

from liquidlm.ops import (
    delta_memory,
    delta_memory_chunked,
    delta_memory_reference,
    delta_memory_weights,
    liquid_relax_fused,
    liquid_relax_reference,
    liquid_scan,
    liquid_scan_chunked,
    liquid_scan_reference,
    short_conv,
    short_conv_reference,
)

HEADS, KEY, VALUE = 2, 5, 3


def strength(beta, k):
    """η = (1 − e^{−β‖k‖²}) / ‖k‖² for keys of any length."""
    square = k.square().sum(-1)
    return -torch.expm1(-beta * square) / square


class Memory:
    """Random arguments of the delta memory; gaps of 0 and 1e6 and documents' starts among the ordinary."""

    def __init__(self, length, batch=2, seed=0, special=True):
        self.q = normal(batch, length, HEADS, KEY, seed=seed)
        self.k = normal(batch, length, HEADS, KEY, seed=seed + 1)
        self.v = normal(batch, length, HEADS, VALUE, seed=seed + 2)
        self.rate = 0.3 * uniform(HEADS, seed=seed + 3)
        self.write = strength(2 * uniform(batch, length, HEADS, seed=seed + 4), self.k)
        self.state = normal(batch, HEADS, KEY, VALUE, seed=seed + 5)
        self.gap = -uniform(batch, length, seed=seed + 6).log()
        self.start = torch.zeros(batch, length, dtype=torch.bool)
        if special:
            kind = uniform(batch, length, seed=seed + 7)
            self.gap[kind < 0.2] = 0.0
            self.gap[(kind > 0.2) & (kind < 0.25)] = 1e6
            self.start = (kind > 0.25) & (kind < 0.3)

    def leaves(self):
        names = ("q", "k", "v", "rate", "write", "state", "gap")
        return {name: getattr(self, name).clone().requires_grad_() for name in names}

    def arguments(self, leaves):
        log_decay = (-leaves["rate"] * leaves["gap"][..., None]).masked_fill(
            self.start[..., None], -torch.inf
        )
        return [leaves[n] for n in ("q", "k", "v")] + [log_decay, leaves["write"], leaves["state"]]

    def run(self, form, *chunk_size):
        """(reads, last state), and the gradients of every input."""
        leaves = self.leaves()
        outputs = form(*self.arguments(leaves), *chunk_size)
        return outputs, dict(zip(leaves, gradients(outputs, tuple(leaves.values())), strict=True))


# ---- the matrix memory


@pytest.mark.parametrize("length", [1, 63, 64, 65, 300])
def test_chunked_memory_equals_the_loop_with_all_gradients(length):
    memory = Memory(length, seed=length)
    outputs, grads = memory.run(delta_memory_reference)
    for chunk_size in (1, 16, 32, 64):
        fast, fast_grads = memory.run(delta_memory_chunked, chunk_size)
        for a, b in zip(fast, outputs, strict=True):
            assert error(a, b) < 1e-10
        for name in grads:
            assert error(fast_grads[name], grads[name]) < 1e-10, (chunk_size, name)


def test_every_token_a_document():
    memory = Memory(40)
    memory.start = torch.ones_like(memory.start)
    (reads, _), grads = memory.run(delta_memory_chunked, 16)
    alone = torch.einsum("btnk,btnk,btn,btnp->btnp", memory.q, memory.k, memory.write, memory.v)
    assert error(reads, alone) < 1e-13
    assert grads["state"].abs().max() == 0 and all(grad.isfinite().all() for grad in grads.values())


@pytest.mark.parametrize("length", [1, 3, 4, 5, 70])
def test_the_dispatched_memory_equals_the_loop(length):
    memory = Memory(length)
    for a, b in zip(memory.run(delta_memory)[0], memory.run(delta_memory_reference)[0], strict=True):
        assert error(a, b) < 1e-12


def test_float32_memory_stays_close_across_a_huge_gap_within_a_chunk():
    memory = Memory(64, special=False)
    memory.k = F.normalize(memory.k, dim=-1)
    memory.write = uniform(*memory.write.shape, seed=9)
    memory.gap[:, 32] = 1e6
    (reads, state), grads = memory.run(delta_memory_reference)
    for name in ("q", "k", "v", "rate", "write", "state", "gap"):
        setattr(memory, name, getattr(memory, name).float())
    (reads32, state32), grads32 = memory.run(delta_memory_chunked, 64)
    assert reads32.dtype == torch.float32
    assert error(reads32, reads) < 1e-4 and error(state32, state) < 1e-4
    for name in grads:
        assert error(grads32[name], grads[name]) < 1e-4, name


def test_nearly_parallel_keys_stay_finite_and_right_in_float32():
    shape = (1, 256, HEADS, KEY)
    k = F.normalize(normal(1, 1, HEADS, KEY) + 1e-3 * normal(*shape, seed=1), dim=-1)
    q, v = normal(*shape, seed=2), normal(*shape[:3], VALUE, seed=3)
    log_decay, write = torch.zeros(shape[:3]).double(), torch.full(shape[:3], 0.99).double()
    state = normal(1, HEADS, KEY, VALUE, seed=4)
    arguments = (q, k, v, log_decay, write, state)
    exact = delta_memory_reference(*arguments)
    leaves = tuple(x.float().requires_grad_() for x in arguments)
    outputs = delta_memory_chunked(*leaves, 64)
    for a, b in zip(outputs, exact, strict=True):
        assert error(a, b) < 1e-4
    assert all(grad.isfinite().all() for grad in gradients(outputs, leaves))


def test_memory_weights_reproduce_the_reads():
    memory = Memory(50)
    q, k, v, log_decay, write, state = memory.arguments(memory.leaves())
    weights = delta_memory_weights(q, k, log_decay, write)
    assert weights.triu(1).abs().max() == 0
    from_values = torch.einsum("bnij,bjnp->binp", weights, v)
    reads, _ = delta_memory_reference(q, k, v, log_decay, write, torch.zeros_like(state))
    assert error(from_values, reads) < 1e-12
    # The read is affine: what is left is what was read of the first state.
    of_the_state, _ = delta_memory_reference(q, k, torch.zeros_like(v), log_decay, write, state)
    whole, _ = delta_memory_reference(q, k, v, log_decay, write, state)
    assert error(from_values + of_the_state, whole) < 1e-12


@pytest.mark.parametrize("length", [2, 70])
def test_autocast_leaves_the_memory_in_its_precision(length):
    memory = Memory(length)
    arguments = [x.float() for x in memory.arguments(memory.leaves())]
    plain = (*delta_memory(*arguments), delta_memory_weights(*arguments[:2], *arguments[3:5]))
    with torch.autocast("cpu", torch.bfloat16):
        cast = (*delta_memory(*arguments), delta_memory_weights(*arguments[:2], *arguments[3:5]))
    assert all(a.dtype == torch.float32 and torch.equal(a, b) for a, b in zip(cast, plain, strict=True))


# ---- the memory's physics: dS/dt = −(aI + βkkᵀ)S + βkvᵀ in jump form


def flow(matrix, drive, state):
    """Exact solution at time 1 of Ṡ = matrix S + drive, by the exponential of the augmented system."""
    size, width = drive.shape
    system = matrix.new_zeros(size + width + 1, size + width + 1)
    system[:size, :size], system[:size, size:-1] = matrix, drive
    # torch sums too few terms for norms of 0.01…0.05 (errors of 1e-11): a coordinate of its own rate 1 helps.
    system[-1, -1] = -1.0
    whole = torch.linalg.matrix_exp(system)
    return whole[:size, :size] @ state + whole[:size, size:-1]


@pytest.mark.parametrize("unit", [True, False], ids=["unit keys", "keys of any length"])
@given(seed=st.integers(0, 10**6), beta=st.floats(1e-3, 8))
@settings(max_examples=20)
def test_event_is_the_exact_flow_of_its_equation(unit, seed, beta):
    k, v = normal(KEY, seed=seed), normal(VALUE, seed=seed + 1)
    k = F.normalize(k, dim=0) if unit else k
    state = normal(KEY, VALUE, seed=seed + 2)
    exact = flow(-beta * torch.outer(k, k), beta * torch.outer(k, v), state)
    beta = torch.tensor(beta, dtype=torch.float64)
    write = -torch.expm1(-beta) if unit else strength(beta, k)
    k, v, write = k.expand(1, 1, 1, KEY), v.expand(1, 1, 1, VALUE), write.expand(1, 1, 1)
    _, after = delta_memory(k, k, v, torch.zeros_like(write), write, state[None, None])
    assert error(after[0, 0], exact) < 1e-12


def test_gaps_and_events_are_the_exact_flow_one_after_the_other():
    memory = Memory(30, batch=1, special=False)
    beta = 2 * uniform(1, 30, HEADS, seed=20)
    memory.write = strength(beta, memory.k)
    _, after = delta_memory(*memory.arguments(memory.leaves()), 8)
    for head in range(HEADS):
        state, identity = memory.state[0, head], torch.eye(KEY).double()
        for i in range(30):
            k, v = memory.k[0, i, head], memory.v[0, i, head]
            leak = -memory.rate[head] * memory.gap[0, i] * identity
            state = flow(leak, torch.zeros(KEY, VALUE).double(), state)
            drive = beta[0, i, head] * torch.outer(k, v)
            state = flow(-beta[0, i, head] * torch.outer(k, k), drive, state)
        assert error(after[0, head], state) < 1e-12


@given(first=st.floats(0, 5), second=st.floats(0, 5), rate=st.floats(0.01, 1))
@settings(max_examples=30)
def test_two_gaps_equal_one(first, second, rate):
    memory = Memory(2, batch=1)
    write = memory.write.clone()
    write[:, 0] = 0.0  # an event that writes nothing: only its gap passes

    def after(*gaps):
        log_decay = torch.tensor([[[-rate * gap] * HEADS for gap in gaps]], dtype=torch.float64)
        n = len(gaps)
        arguments = (x[:, -n:] for x in (memory.q, memory.k, memory.v, log_decay, write))
        return delta_memory_chunked(*arguments, memory.state)[1]

    assert error(after(first, second), after(first + second)) < 1e-12
    assert error(after(first, second), after(first)) > 0 or rate * second < 1e-12


# ---- the diagonal recurrence


def scan_inputs(length, batch=2, hidden=3):
    decay = uniform(batch, length, hidden, seed=length)
    decay[:, 3::7] = 1.0
    decay[:, 5::11] = 0.0
    drive, h0 = normal(batch, length, hidden, seed=1), normal(batch, hidden, seed=2)
    return tuple(x.requires_grad_() for x in (decay, drive, h0))


@pytest.mark.parametrize("length", [1, 2, 5, 17, 64, 300, 1000])
def test_scan_equals_the_loop_with_all_gradients(length):
    inputs = scan_inputs(length)
    exact = liquid_scan_reference(*inputs)
    exact_grads = gradients((exact,), inputs)
    for form in (liquid_scan_chunked, liquid_scan):
        fast = form(*inputs)
        assert error(fast, exact) < 1e-12
        for a, b in zip(gradients((fast,), inputs), exact_grads, strict=True):
            assert error(a, b) < 1e-12


@pytest.mark.parametrize("length", [1, 2, 7, 12])
def test_scan_passes_gradcheck(length):
    assert torch.autograd.gradcheck(liquid_scan_chunked, scan_inputs(length))


def test_scan_takes_gradients_and_inputs_that_are_not_contiguous():
    decay, drive, h0 = (x.detach() for x in scan_inputs(20))
    inputs = (*(x.mT.contiguous().mT.requires_grad_() for x in (decay, drive)), h0.requires_grad_())
    exact, fast = liquid_scan_reference(*inputs), liquid_scan_chunked(*inputs)
    assert error(fast, exact) < 1e-12
    for a, b in zip(*(torch.autograd.grad(y.sum(), inputs) for y in (fast, exact)), strict=True):
        assert error(a, b) < 1e-12


# ---- the liquid neuron over a sequence


def relax_inputs(length, batch=2, hidden=3):
    synapse = normal(batch, length, 2 * hidden, seed=length)
    duration = 3 * uniform(batch, length, seed=1)
    duration[:, 2::5], duration[:, 3::7] = 0.0, 1e4
    leak, pace, h0 = uniform(hidden, seed=2), uniform(hidden, seed=3), normal(batch, hidden, seed=4)
    return tuple(x.requires_grad_() for x in (synapse, leak, duration, pace, h0))


@pytest.mark.parametrize("rows", [2, 9, 1024])  # slabs of one step, of some, and one of all
@pytest.mark.parametrize("length", [1, 2, 5, 37, 200])
@pytest.mark.parametrize("documents", [False, True])
def test_relaxation_equals_the_loop_with_all_gradients(monkeypatch, rows, length, documents):
    monkeypatch.setattr("liquidlm.ops.slabs.ROWS", rows)
    inputs = relax_inputs(length)
    start = uniform(2, length, seed=5) < 0.2 if documents else None
    exact, fast = (form(*inputs, start) for form in (liquid_relax_reference, liquid_relax_fused))
    assert error(fast, exact) < 1e-12
    for a, b in zip(gradients((fast,), inputs), gradients((exact,), inputs), strict=True):
        assert error(a, b) < 1e-12


def test_relaxation_passes_gradcheck():
    inputs = relax_inputs(7)
    inputs[2].data.clamp_(max=3.0)
    assert torch.autograd.gradcheck(lambda *x: liquid_relax_fused(*x, None), inputs)


def test_relaxation_of_bfloat16_synapses_is_computed_in_float32():
    synapse, *others = (x.detach().float() for x in relax_inputs(50))
    low = synapse.bfloat16()
    assert error(liquid_relax_fused(low, *others), liquid_relax_fused(low.float(), *others)) < 1e-6


# ---- the short convolution


@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize("length", [1, 2, 3, 30])
@pytest.mark.parametrize("documents", [False, True])
def test_short_conv_equals_the_loop_with_all_gradients(width, length, documents):
    segment = (uniform(2, length, seed=3) < 0.3).cumsum(1).double() if documents else None
    shapes = (2, length, 3), (3, width), (2, width - 1, 3), (2, length), (3,)
    inputs = tuple(normal(*shape, seed=i).requires_grad_() for i, shape in enumerate(shapes))

    def run(form):
        return form(*inputs[:3], segment, *inputs[3:])

    exact, fast = run(short_conv_reference), run(short_conv)
    assert error(fast, exact) < 1e-12
    for a, b in zip(gradients((fast,), inputs), gradients((exact,), inputs), strict=True):
        assert error(a, b) < 1e-12
    if length <= 3:
        assert torch.autograd.gradcheck(lambda *x: short_conv(*x[:3], segment, *x[3:]), inputs)


def test_short_conv_does_not_reach_into_another_document():
    segment = torch.tensor([[0.0, 0.0, 1.0, 1.0, 2.0, 2.0]])
    x, tail = normal(1, 6, 2), normal(1, 3, 2, seed=1)
    weight = normal(2, 4, seed=2)
    x[0, 1] = float("nan")  # not even what is no number
    out = short_conv(x, weight, tail, segment.double(), torch.zeros_like(segment).double(), weight[:, 0])
    for first, last, before in ((2, 4, torch.zeros_like(tail)), (4, 6, torch.zeros_like(tail))):
        past = torch.cat([before, x[:, first:last]], 1)
        alone = F.conv1d(past.mT, weight[:, None], groups=2).mT
        assert error(out[:, first:last], alone) < 1e-13

"""The functions of `lanes.h` against float64, over their whole range, for each set that the processor has."""

import ctypes
from pathlib import Path

import numpy as np
import pytest
import torch

from liquidlm.ops.native.build import FOLDER, build, compiler
from liquidlm.ops.native.library import runnable_sets

pytestmark = pytest.mark.skipif(compiler() is None, reason="no C++ compiler")
EVERY = 1009
"""One of so many floats is tried; a prime, so that all patterns of the last bits come."""


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    target = tmp_path_factory.mktemp("lanes") / "lanes.so"
    return ctypes.CDLL(str(build(target, [f"-I{FOLDER}"], [Path(__file__).parent / "lanes.cpp"])))


@pytest.fixture(params=runnable_sets())
def lanes(request, library):
    """A function of `lanes.cpp` by name: array, type of the results ▶ array."""

    def call(name, x, results=np.float32):
        y = np.empty(x.size, results)
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in (x, y)]
        library[f"{name}_{request.param}"](*pointers, ctypes.c_int64(x.size))
        return y

    call.count = library[f"lanes_{request.param}"]()
    return call


def floats(low, high):
    """Every 1,009th float from `low` to `high`, the ends, both zeros, and the smallest floats."""
    bits = np.arange(0, 2**32, EVERY, dtype=np.uint32)
    small = np.arange(1, 9, dtype=np.uint32).view(np.float32)
    x = np.concatenate([bits.view(np.float32), np.float32([low, high, 0.0, -0.0]), small, -small])
    return x[(x >= low) & (x <= high)]


def ulps(found, exact):
    """The largest error, in units in the last place of the exact results."""
    place = np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64)
    return np.max(np.abs(found - exact) / place)


FUNCTIONS = {
    "exp": (np.exp, -87, 88, 1.1),
    "expm1": (np.expm1, -np.inf, 88, 1.8),
    "log1p_unit": (np.log1p, 0, 1, 2.0),
    "softplus": (lambda x: np.logaddexp(0, x), -87, np.inf, 2.7),
    "sigmoid": (lambda x: np.exp(-np.logaddexp(0, -x)), -87, np.inf, 2.7),
    "tanh": (np.tanh, -np.inf, np.inf, 3.0),
}
"""Each function: in float64, the ends of its range, and the bound of its error in ulp, as `lanes.h` says."""


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_error_over_the_whole_range(lanes, name):
    exactly, low, high, bound = FUNCTIONS[name]
    x = floats(low, high)
    with np.errstate(all="ignore"):
        exact = exactly(x.astype(np.float64))
    ends = np.isinf(exact)
    found = lanes(name, x)
    assert np.array_equal(found[ends], exact[ends])
    assert ulps(found[~ends], exact[~ends]) <= bound


@pytest.mark.parametrize("name", FUNCTIONS)
def test_nan_stays_nan(lanes, name):
    assert np.isnan(lanes(name, np.float32([np.nan, 0.5])))[0]


def test_the_limits(lanes):
    """What is too small for a normal float32 is 0."""
    far = np.float32([-np.inf, -3e38, -1e4, -87.01])
    for name, limit in (("exp", 0), ("expm1", -1), ("softplus", 0), ("sigmoid", 0)):
        assert np.array_equal(lanes(name, far), np.full(4, limit, np.float32))
    assert np.array_equal(lanes("sigmoid", -far), np.ones(4, np.float32))
    assert np.array_equal(lanes("softplus", -far), -far)


def test_the_exact_functions(lanes):
    x = floats(-np.inf, np.inf)
    for name, exact in (("abs", np.abs(x)), ("at_least_zero", x.clip(0)), ("at_most_zero", x.clip(None, 0))):
        assert np.array_equal(lanes(name, x), exact)


def test_bf16_is_rounded_as_torch_rounds(lanes):
    bits = np.concatenate([np.arange(0, 2**32, EVERY, dtype=np.uint32)] + [
        (np.arange(2**16, dtype=np.uint32) << 16) + np.uint32(last) for last in (0, 0x7FFF, 0x8000, 0x8001)
    ])  # fmt: skip
    x = bits.view(np.float32)
    exact = torch.from_numpy(x).bfloat16()
    found = torch.from_numpy(lanes("to_bf16", x, np.uint16).view(np.int16)).view(torch.bfloat16)
    assert torch.equal(found.isnan(), exact.isnan())
    number = ~exact.isnan()
    assert torch.equal(found[number].view(torch.int16), exact[number].view(torch.int16))


def test_every_bf16_is_read_exactly(lanes):
    halves = np.arange(2**16, dtype=np.uint16)
    assert np.array_equal(lanes("from_bf16", halves).view(np.uint32), halves.astype(np.uint32) << 16)


def test_parts_of_a_vector(lanes):
    """No more numbers are written than asked for."""
    for count in range(1, 2 * lanes.count + 1):
        x = np.random.default_rng(count).normal(size=count).astype(np.float32)
        assert np.array_equal(lanes("abs", x), np.abs(x))
        halves = lanes("to_bf16", x, np.uint16)
        assert np.array_equal(lanes("from_bf16", halves), torch.from_numpy(x).bfloat16().float().numpy())


def test_the_sum_has_a_fixed_order(lanes):
    x = np.random.default_rng(0).normal(size=64 * lanes.count).astype(np.float32)
    found = lanes("sums", x).reshape(64, lanes.count)
    expected = x.reshape(64, lanes.count)
    while expected.shape[1] > 1:
        first, second = np.split(expected, 2, axis=1)
        expected = first + second
    assert np.array_equal(found, np.repeat(expected, lanes.count, axis=1))

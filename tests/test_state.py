"""LiquidCache: a model's state in memory and on disk."""

import json

import pytest
import torch
from helpers import normal
from safetensors.torch import save_file

from liquidlm.errors import LiquidError
from liquidlm.nn.state import CellState, LiquidCache

ROWS = 3


def cache(seed=0):
    """Two layers, one with a memory; as in a model they share their last time. After 7 tokens."""
    made, time = LiquidCache(2), 1e9 + normal(ROWS, seed=seed)
    for i, memory in enumerate((normal(ROWS, 2, 4, 4, seed=seed + 1).float(), None)):
        h, conv = (normal(ROWS, *shape, seed=seed + 2 + i).float() for shape in ((8,), (3, 8)))
        made.layers[i].store(CellState(h.requires_grad_(), conv, memory, time), 7)
    return made


def parts(made):
    return [part for state in made.states() for part in state if part is not None]


def assert_equal(made, other):
    assert len(made.layers) == len(other.layers) and made.get_seq_length() == other.get_seq_length()
    for a, b in zip(made.states(), other.states(), strict=True):
        for p, q in zip(a, b, strict=True):
            assert (p is None and q is None) or (p.dtype == q.dtype and torch.equal(p, q))


def test_saved_and_loaded_is_equal(tmp_path):
    made, path = cache(), tmp_path / "state.safetensors"
    made.save(path, note="the text so far")
    loaded, metadata = LiquidCache.load(path, 2)
    assert_equal(loaded, made)
    assert metadata == {"note": "the text so far"} and loaded.get_seq_length() == 7
    assert loaded.has_previous_state() and loaded.layers[0].state.time.dtype == torch.float64
    assert [p.name for p in tmp_path.iterdir()] == [path.name]  # nothing half-written is left


def test_saving_replaces_the_file_before(tmp_path):
    path = tmp_path / "state"
    cache(1).save(path)
    cache(2).save(str(path))
    assert_equal(LiquidCache.load(path, 2)[0], cache(2))
    with pytest.raises(LiquidError, match="cannot write"):
        cache().save(tmp_path / "no such folder" / "state")


DAMAGE = {
    "truncated": lambda good: good[:-5],
    "cut in the header": lambda good: good[:40],
    "empty": lambda good: b"",
    "damaged in the header": lambda good: good[:20] + b"\xff" * 20 + good[40:],
    "a text": lambda good: b"not a state at all, only some text",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_refused(tmp_path, damage):
    path = tmp_path / "state"
    cache().save(path)
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    with pytest.raises(LiquidError, match="not a readable liquid state"):
        LiquidCache.load(path, 2)


@pytest.mark.parametrize("header", [None, "{", json.dumps(["seen"]), json.dumps({"seen": "many"}), "{}"])
def test_another_file_is_refused(tmp_path, header):
    path = tmp_path / "state"
    save_file(cache().tensors(), path, header and {"liquid_state": header})
    with pytest.raises(LiquidError, match="not a readable liquid state"):
        LiquidCache.load(path, 2)
    with pytest.raises(LiquidError, match="no such file"):
        LiquidCache.load(tmp_path / "absent", 2)


@pytest.mark.parametrize("layers", [1, 3])
def test_the_state_of_a_model_of_other_depth_is_refused(tmp_path, layers):
    cache().save(tmp_path / "state")
    with pytest.raises(LiquidError, match="model"):
        LiquidCache.load(tmp_path / "state", layers)


def test_nbytes_counts_every_part():
    assert LiquidCache(2).nbytes == 0
    assert cache().nbytes == ROWS * (2 * 4 * (8 + 3 * 8) + 4 * 2 * 4 * 4 + 2 * 8)


@pytest.mark.parametrize(
    ("change", "order"),
    [
        (lambda c: c.batch_select_indices(torch.tensor([2, 0])), [2, 0]),
        (lambda c: c.reorder_cache(torch.tensor([1, 1, 0])), [1, 1, 0]),
        (lambda c: c.batch_repeat_interleave(2), [0, 0, 1, 1, 2, 2]),
    ],
    ids=["select", "reorder", "repeat"],
)
def test_rows_are_selected_reordered_and_repeated(change, order):
    made = cache()
    before = parts(made)
    change(made)
    assert all(torch.equal(p, q[order]) for p, q in zip(parts(made), before, strict=True))
    assert made.get_seq_length() == 7
    empty = LiquidCache(2)
    change(empty)
    assert empty.states() == [None, None]


def test_a_copy_goes_on_by_itself():
    made = cache()
    copy = made.copy()
    assert_equal(copy, made)
    copy.layers[0].store(cache(9).states()[0], 1)
    assert (copy.get_seq_length(), made.get_seq_length()) == (8, 7)
    assert torch.equal(made.states()[0].h, cache().states()[0].h)


def test_detach_cuts_the_gradient_and_keeps_the_values():
    made = cache()
    assert any(part.requires_grad for part in parts(made))
    assert not any(part.requires_grad for part in parts(made.detach_()))
    assert_equal(made, cache())


def test_reset_forgets_and_nothing_is_cropped():
    made = cache()
    made.crop(0)
    with pytest.raises(LiquidError, match="cropped"):
        made.crop(1)
    made.reset()
    assert made.states() == [None, None] and made.get_seq_length() == 0 and not made.has_previous_state()


def test_what_is_joined_is_as_long_as_the_longest():
    short, long = cache(1), cache(2)
    long.layers[0].store(long.states()[0], 5)
    long.layers[1].store(long.states()[1], 5)
    joined = LiquidCache.joined([short, long])
    assert joined.get_seq_length() == LiquidCache.joined([long, short]).get_seq_length() == 12
    for mine, one, other in zip(joined.states(), short.states(), long.states(), strict=True):
        assert torch.equal(mine.h, torch.cat([one.h, other.h]))
        assert torch.equal(mine.time, torch.cat([one.time, other.time]))

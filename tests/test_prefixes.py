"""What the server keeps of prompts."""

import torch
from engines import ids, tiny

from liquidlm.serve.prefixes import BLOCK, HashedPrompt, PrefixCache, Snapshot


def snapshot(length: int) -> Snapshot:
    state = tiny().initial_states(1, torch.float32, torch.device("cpu"))
    return Snapshot(length, state)


def test_snapshots_not_used_for_longest_go_first() -> None:
    size = snapshot(1).nbytes
    cache, prompts = PrefixCache(3 * size), [HashedPrompt(ids(BLOCK + 1, i)) for i in range(5)]
    for prompt in prompts[:3]:
        cache.keep(prompt, snapshot(BLOCK))
    assert cache.longest(prompts[0]) is not None  # and so is used again
    for prompt in prompts[3:]:
        cache.keep(prompt, snapshot(BLOCK))
    assert [cache.longest(prompt) is not None for prompt in prompts] == [True, False, False, True, True]
    assert len(cache) == 3 and cache.nbytes == 3 * size
    nothing = PrefixCache(size - 1)
    nothing.keep(prompts[0], snapshot(BLOCK))
    assert len(nothing) == nothing.nbytes == 0


def test_what_is_kept_is_a_copy_that_keeps_nothing_else_alive() -> None:
    whole = snapshot(BLOCK)
    wide = [state.map(lambda part: torch.cat([part, part])) for state in whole.states]
    views = Snapshot(BLOCK, [state.map(lambda part: part[:1]) for state in wide], torch.zeros(3, 9)[:1])
    cache, prompt = PrefixCache(1 << 20), HashedPrompt(ids(BLOCK + 1))
    cache.keep(prompt, views)
    kept = cache.longest(prompt)
    assert kept is not None and kept.logits is not None
    parts = [part for state in kept.states for part in state if part is not None] + [kept.logits]
    assert all(part.untyped_storage().nbytes() == part.numel() * part.element_size() for part in parts)


def test_of_a_long_prompt_not_every_piece_is_kept() -> None:
    prompt = HashedPrompt(ids(1000 * BLOCK + 7))
    kept = [n for n in [*range(BLOCK, 1000 * BLOCK + 1, BLOCK), 9, 1000 * BLOCK + 7] if prompt.is_kept(n)]
    assert 50 < len(kept) < 70 and kept[-2:] == [1000 * BLOCK, 1000 * BLOCK + 7]
    assert all(n % BLOCK == 0 for n in kept[:-1])


def test_a_longer_prompt_has_the_keys_of_one_read_at_once() -> None:
    whole = ids(2 * BLOCK + 9)
    for cut in (1, BLOCK - 1, BLOCK, BLOCK + 5):
        first, at_once = HashedPrompt(whole[:cut]), HashedPrompt(whole)
        longer = first.extended(whole[cut:].tolist())
        assert all(longer.key(n) == at_once.key(n) for n in (1, BLOCK, 2 * BLOCK, len(whole)))
        assert len(first.ids) == cut and first.key(cut) == at_once.key(cut)


def test_of_one_beginning_the_state_with_logits_is_kept() -> None:
    cache, prompt = PrefixCache(1 << 20), HashedPrompt(ids(40))
    cache.keep(prompt, snapshot(40))
    assert cache.longest(prompt) is None  # nothing says what comes next
    cache.keep(prompt, snapshot(40)._replace(logits=torch.zeros(1, 9)))
    cache.keep(prompt, snapshot(40))
    found = cache.longest(prompt)
    assert found is not None and found.logits is not None and len(cache) == 1
    assert cache.nbytes == found.nbytes + len(prompt.key(40)[1])
    by_blocks = PrefixCache(1 << 20, anywhere=False)
    by_blocks.keep(prompt, found)
    assert by_blocks.longest(prompt) is not None
    assert by_blocks.longest(prompt.extended([5])) is None and cache.longest(prompt.extended([5])) is not None

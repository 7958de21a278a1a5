"""The exact memory: its tables, its distribution, its place in the model and in the state."""

import functools

import numpy as np
import pytest
import torch

from liquidlm import LiquidConfig, LiquidTextGenerationModel
from liquidlm.errors import LiquidError
from liquidlm.model.losses import counted_loss
from liquidlm.model.step import LiquidStep
from liquidlm.nn.counts import CountMemory, Levels, counted_tokens
from liquidlm.nn.state import LiquidCache
from liquidlm.ops import count_contexts, count_contexts_reference, count_text, count_text_reference
from liquidlm.ops.counts import ENTRIES, MOST
from liquidlm.text.token_corpus import TokenCorpus
from liquidlm.text.weighting import WeightedCorpus
from liquidlm.training.trainer import documents_of

ORDERS = [1, 2, 3, 5]


def some_events(tokens=4, rows=3, length=120):
    ids = torch.randint(0, tokens, (rows, length))
    start = torch.rand(rows, length) < 0.02
    return ids, start, torch.tensor([length, length - 30, 0])


def zeros(*shape):
    return torch.zeros(*shape, dtype=torch.int32)


def some_text(tokens=6, length=2000):
    return torch.randint(0, tokens, (length,)), torch.rand(length) < 0.01


@pytest.mark.parametrize("lines", [1, 8, 64])
def test_kernel_counts_as_the_reference_does(lines):
    events, context = some_events(), torch.zeros(3, 5, dtype=torch.long)
    training = zeros(lines, ENTRIES)
    count_text(*some_text(), context[0].clone(), training, ORDERS)
    given = (*events, context, zeros(3, lines, ENTRIES), training, ORDERS)
    for fast, slow in zip(count_contexts(*given), count_contexts_reference(*given), strict=True):
        assert torch.equal(fast, slow)
    assert not given[4].any() and not context.any()  # what is given is not changed


def test_kernel_counts_a_text_as_the_reference_does():
    text, tables, contexts = some_text(2), [], []
    for form in (count_text, count_text_reference):
        tables.append(zeros(64, ENTRIES))
        contexts.append(torch.zeros(5, dtype=torch.long))
        form(*text, contexts[-1], tables[-1], ORDERS)
    assert torch.equal(*tables) and torch.equal(*contexts)
    assert (tables[0] & MOST).max() == MOST  # full counts were halved


def test_counts_are_those_of_a_dictionary():
    """With room for all, the table has what counting in a dictionary has."""
    ids, start = torch.randint(0, 3, (1, 90)), torch.zeros(1, 90, dtype=torch.bool)
    given = (torch.tensor([90]), torch.zeros(1, 2, dtype=torch.long), zeros(1, 1024, ENTRIES), None, [2])
    found = count_contexts(ids, start, *given).found[0, :, 0]
    text = [None, *ids[0].tolist()]
    for t in range(90):
        here = text[t], text[t + 1]
        follows = [text[j + 2] for j in range(t) if (text[j], text[j + 1]) == here]
        counted = {int(e) // (MOST + 1): int(e) & MOST for e in found[t] if e}
        assert counted == {token: min(follows.count(token), MOST) for token in set(follows)}


def test_a_longer_context_is_counted_where_the_shorter_one_was_met_before():
    orders, text = [1, 2, 3], torch.randint(0, 3, (60,)).tolist()
    given = (torch.tensor([60]), torch.zeros(1, 3, dtype=torch.long), zeros(1, 1024, ENTRIES), None, orders)
    found = count_contexts(torch.tensor([text]), torch.zeros(1, 60, dtype=torch.bool), *given).found[0]
    met: dict[tuple, dict[int, int]] = {}
    padded = [None, None, None, *text]
    for t, token in enumerate(text):
        before = [tuple(padded[t + 3 - n : t + 3]) for n in orders]
        for context in before:
            new = context not in met
            after = met.setdefault(context, {})
            after[token] = after.get(token, 0) + 1
            if new:
                break
        for level, n in enumerate(orders):
            counted = {int(e) // (MOST + 1): int(e) & MOST for e in found[t, level] if e}
            assert counted == met.get(tuple(padded[t + 4 - n : t + 4]), {})
    assert sum(len(context) == 3 for context in met) < len({tuple(text[t : t + 3]) for t in range(57)}) + 3


def random_memory(orders=ORDERS, lines=64, training_lines=0, dtype=torch.float64):
    memory = CountMemory(orders, lines, training_lines).to(dtype).eval()
    for parameter in memory.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return memory


def found_of(memory, ids, start=None):
    start = torch.zeros_like(ids, dtype=torch.bool) if start is None else start
    return memory.read(ids, start, None, *memory.empty(len(ids))).found


def recursion(memory, logits, found):
    """p_k(v) = (c_k(v) + e_k p_{k−1}(v)) / (c_k + e_k), a level after the other."""
    p = logits.softmax(-1)
    counts, tokens = (found & MOST).double(), counted_tokens(found)
    of_counted = p.log().gather(-1, tokens.flatten(-2)).view_as(counts)
    e = memory._weights(of_counted, Levels(tokens, counts), counts.sum(-1)).exp()
    for k in range(found.shape[-2]):
        c = torch.zeros_like(p).scatter_add(-1, tokens[..., k, :], counts[..., k, :])
        n = c.sum(-1, keepdim=True)
        p = torch.where(n > 0, (c + e[..., k, None] * p) / (n + e[..., k, None]), p)
    return p


def test_distribution_is_that_of_the_recursion_and_sums_to_one():
    memory = random_memory()
    ids = torch.randint(0, 7, (2, 60))
    logits, found = torch.randn(2, 60, 7, dtype=torch.float64), found_of(memory, ids)
    log_p = memory.log_probs(logits, found)
    torch.testing.assert_close(log_p.exp().sum(-1), torch.ones(2, 60, dtype=torch.float64))
    torch.testing.assert_close(log_p.exp(), recursion(memory, logits, found))
    nothing = memory.log_probs(logits, torch.zeros_like(found))
    torch.testing.assert_close(nothing, logits.log_softmax(-1))


@pytest.mark.parametrize("bias", [False, True])
def test_loss_is_that_of_the_distribution_and_each_part_learns_from_its_own(bias):
    """A layer with a bias computes its own logits; that of a plain matrix is fused with the loss."""
    memory, layer = random_memory(), torch.nn.Linear(5, 7, bias).double()
    ids, hidden = torch.randint(0, 7, (2, 33)), torch.randn(2, 33, 5, dtype=torch.float64)
    targets, found = ids.roll(-1, 1), found_of(memory, ids)
    targets[:, -1] = -100
    nll = functools.partial(torch.nn.functional.nll_loss, target=targets.flatten(), reduction="sum")
    loss = counted_loss(memory, layer, hidden, found, targets, 16)
    mixed = nll(memory.log_probs(layer(hidden), found).flatten(0, 1))
    alone = nll(layer(hidden).log_softmax(-1).flatten(0, 1))
    torch.testing.assert_close(loss, mixed)
    weights = list(memory.parameters())
    right = [*torch.autograd.grad(alone, layer.weight), *torch.autograd.grad(mixed, weights)]
    for fast, slow in zip(torch.autograd.grad(loss, [layer.weight, *weights]), right, strict=True):
        torch.testing.assert_close(fast, slow)


def test_training_takes_each_target_out_of_the_training_text():
    """The loss in training mode is that of counts in which each target is counted once less, there alone."""
    memory = random_memory([1, 2], lines=64, training_lines=256)
    ids = torch.randint(0, 4, (1, 50))
    start = torch.zeros_like(ids, dtype=torch.bool)
    start[0, 0] = True
    memory.count_training_text(ids[0], torch.tensor([0]))
    layer, hidden = torch.nn.Linear(5, 4, bias=False).double(), torch.randn(1, 50, 5, dtype=torch.float64)
    targets = ids.roll(-1, 1)
    targets[0, -1] = -100
    found = found_of(memory, ids, start)
    loss = counted_loss(memory.train(), layer, hidden, found, targets, 64)
    less = found.clone()
    own = (found // (MOST + 1) == targets[..., None, None]) & (found & MOST > 0)
    assert own[0, :-1, 0].any(-1).all() and own[0, :-1, 2].any(-1).any()  # the table has its own places
    less[:, :, ::2] -= own[:, :, ::2].int()
    less[(less & MOST) == 0] = 0
    log_p = memory.eval().log_probs(layer(hidden), less)
    torch.testing.assert_close(loss, -log_p[0, :-1].gather(1, targets[0, :-1, None]).sum())


def test_documents_of_weight_0_are_not_counted():
    tokens, starts = np.arange(9, dtype=np.int32), np.array([0, 3, 5])
    corpus = TokenCorpus(tokens, starts, 9)
    for train, ids, begins in (
        (corpus, [0, 1, 2, 3, 4, 5, 6, 7, 8], [0, 3, 5]),
        (WeightedCorpus(corpus, [2.0, 0.0, 0.5]), [0, 1, 2, 5, 6, 7, 8], [0, 3]),
    ):
        found = documents_of(train)
        assert [x.tolist() for x in found] == [ids, begins]


def small_model(**more):
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "embedding_dim": 16, "latent_dim": 8, "num_hidden_layers": 2}
    config = LiquidConfig(vocab_size=40, **sizes, **{"count_orders": [1, 2, 4], "count_lines": 64, **more})
    model = LiquidTextGenerationModel(config).eval()
    for parameter in model.counts.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model


def test_parts_steps_and_the_whole_agree():
    model = small_model()
    ids = torch.randint(0, 9, (2, 40))
    whole = model(ids, use_cache=True)
    state = model.new_state()
    parts = [model(part, past_key_values=state, use_cache=True).logits for part in ids.split(7, 1)]
    torch.testing.assert_close(torch.cat(parts, 1), whole.logits, rtol=1e-4, atol=1e-4)
    step, stepped = LiquidStep(model), model.new_state()
    logits = [model(ids[:, :1], past_key_values=stepped, use_cache=True).logits[:, -1]]
    logits += [step(ids[:, t], stepped) for t in range(1, 40)]
    torch.testing.assert_close(torch.stack(logits, 1), whole.logits, rtol=1e-4, atol=1e-4)
    read = model.new_state()
    every = LiquidStep(model).read_events(ids, read, every=True)[0]
    torch.testing.assert_close(every, whole.logits, rtol=1e-4, atol=1e-4)
    for one in (state, stepped, read):
        assert torch.equal(one.states()[0].counts, whole.state.states()[0].counts)
        assert torch.equal(one.states()[0].context, whole.state.states()[0].context)


def test_packed_documents_and_padded_rows_are_as_alone():
    model = small_model()
    first, second = torch.randint(0, 9, (1, 20)), torch.randint(0, 9, (1, 13))
    alone = [model(one).logits for one in (first, second)]
    starts = torch.zeros(1, 33, dtype=torch.bool)
    starts[0, [0, 20]] = True
    packed = model(torch.cat([first, second], 1), starts=starts).logits
    torch.testing.assert_close(packed[:, :20], alone[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(packed[:, 20:], alone[1], rtol=1e-4, atol=1e-4)
    left = torch.cat([torch.zeros(1, 7, dtype=torch.long), second], 1)
    mask = torch.tensor([[0] * 7 + [1] * 13, [1] * 20])
    both = model(torch.cat([left, first]), attention_mask=mask, use_cache=True)
    torch.testing.assert_close(both.logits[:1, 7:], alone[1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(both.logits[1:], alone[0], rtol=1e-4, atol=1e-4)
    lone = model(second, use_cache=True).state.states()[0]
    assert torch.equal(both.state.states()[0].counts[:1], lone.counts)


def test_loss_is_the_loss_of_the_logits_and_reaches_every_weight():
    model = small_model().train()
    ids = torch.randint(0, 9, (2, 40))
    output = model(ids, labels=ids, skip_logits=False)
    text = output.loss - model.config.flow_loss_weight * output.flow_loss
    log_p = output.logits[:, :-1].flatten(0, 1)
    torch.testing.assert_close(text, torch.nn.functional.nll_loss(log_p, ids[:, 1:].flatten()))
    output.loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_state_and_model_are_saved_with_their_counts(tmp_path):
    model = small_model(count_training_lines=128)
    model.counts.count_training_text(torch.randint(0, 9, (500,)), torch.tensor([0]))
    ids = torch.randint(0, 9, (1, 30))
    output = model(ids, use_cache=True)
    output.state.save(tmp_path / "state.safetensors")
    model.save_pretrained(tmp_path / "model")
    again = LiquidTextGenerationModel.from_pretrained(tmp_path / "model").eval()
    assert torch.equal(again.counts.training_counts, model.counts.training_counts)
    state, _ = LiquidCache.load(tmp_path / "state.safetensors", 2)
    more = torch.randint(0, 9, (1, 5))
    torch.testing.assert_close(
        again(more, past_key_values=state).logits, model(more, past_key_values=output.state).logits
    )
    assert output.state.nbytes >= 64 * ENTRIES * 4


def test_it_foretells_what_came_before():
    """A word that an untrained network does not know is spelled right the second time."""
    torch.manual_seed(1)
    model = LiquidTextGenerationModel(
        LiquidConfig(vocab_size=40, hidden_size=16, embedding_dim=16, latent_dim=8, count_orders=[2, 3])
    ).eval()
    ids = torch.tensor([[1, 30, 31, 32, 33, 34, 2, 3, 30, 31, 32, 33, 34]])
    guesses = model(ids).logits.argmax(-1)
    assert guesses[0, 9:12].tolist() == [32, 33, 34]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"count_orders": [2, 1]}, "must rise"),
        ({"count_orders": [0]}, "must rise"),
        ({"count_lines": 63}, "power of 2"),
        ({"count_lines": 0}, "need a table"),
        ({"vocab_size": 70_000}, "at most 65,536"),
    ],
)
def test_wrong_sizes_are_named(wrong, says):
    sizes = {"vocab_size": 40, "hidden_size": 16, "count_orders": [1, 2]}
    with pytest.raises(LiquidError, match=says):
        LiquidConfig(**{**sizes, **wrong})


def test_a_model_without_a_table_of_the_training_text_says_so():
    with pytest.raises(LiquidError, match="training_lines"):
        small_model().counts.count_training_text(torch.tensor([1]), torch.tensor([0]))

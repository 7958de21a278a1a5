"""The probes of `bench recall` that ask for letters backwards, popped elements and values of expressions."""

import random
import re

import pytest
import torch

from benchmarks import recall_tasks
from benchmarks.recall import TASKS
from liquidlm.text.batches import IGNORED

GENERATOR = torch.Generator().manual_seed(5)
SIGNS = "01234+-*=()"
"""The sign of each id of arithmetic, in its order."""


def test_a_palindrome_asks_for_the_letters_from_the_last_to_the_first():
    ids, targets = recall_tasks.palindrome(3, 9, 0, GENERATOR)
    for row, asked in zip(ids.tolist(), targets.tolist(), strict=True):
        assert row[4] == 1 and 1 not in row[:4] and row[5:] == row[3::-1]
        assert asked == [*[IGNORED] * 4, *row[3::-1], IGNORED]


@pytest.mark.parametrize("count", [1, 3, recall_tasks.STACKS])
def test_a_pop_asks_for_the_element_that_was_pushed_last_on_its_stack(count):
    ids, targets = recall_tasks.stacks(2, 600, count, GENERATOR)
    assert ids.shape == (2, 600) and ids.max() <= recall_tasks.POP
    for row, asked in zip(ids.tolist(), targets.tolist(), strict=True):
        held = {stack: [] for stack in range(recall_tasks.ELEMENTS, recall_tasks.ELEMENTS + count)}
        deepest = 0
        for operation, stack, element, *wanted in zip(
            row[::3], row[1::3], row[2::3], asked[::3], asked[1::3], asked[2::3], strict=True
        ):
            if operation == recall_tasks.PUSH:
                held[stack].append(element)
                assert wanted == [IGNORED] * 3 and element < recall_tasks.ELEMENTS
            else:
                assert operation == recall_tasks.POP
                assert wanted == [IGNORED, element, IGNORED] and element == held[stack].pop()
            deepest = max(deepest, *map(len, held.values()))
        assert deepest <= recall_tasks.DEPTH
        assert count > 1 or deepest > 30  # deeper than in training


def test_a_stack_holds_64_elements_at_most():
    ids, _ = recall_tasks.stacks(4, 1536, 1, GENERATOR)
    depth = (ids[:, ::3] == recall_tasks.PUSH).long().mul(2).sub(1).cumsum(1)
    assert depth.max() == 64 and depth.min() >= 0


@pytest.mark.parametrize("brackets", [0, 1])
@pytest.mark.parametrize("length", [4, 6, 8, 40, 256])
def test_arithmetic_asks_for_the_value_at_the_end_alone(length, brackets):
    ids, targets = recall_tasks.arithmetic(20, length, brackets, GENERATOR)
    assert ids.shape == targets.shape == (20, length)
    assert (targets[:, :-1] == IGNORED).all()
    for row, answer in zip(ids.tolist(), targets[:, -1].tolist(), strict=True):
        text = "".join(SIGNS[i] for i in row)
        assert text.endswith("=") and answer == eval(text[:-1]) % 5  # Python has the same order of operations
        assert ("(" in text) == bool(brackets)


def test_every_operation_has_its_own_brackets_and_parts_of_any_length():
    dice = random.Random(3)
    for length in range(1, 60):
        text, _ = recall_tasks.bracketed(length, dice)
        assert len(text) == length
        while len(text) > 2:  # from the inside out; an operation that has no brackets would be left
            text, found = re.subn(r"\(-?\d([+*-]-?\d)?\)", "1", text)
            assert found
    forms = {re.sub(r"\d", "1", recall_tasks.bracketed(7, dice)[0]) for _ in range(300)}
    assert {re.sub("[+*]", "-", form) for form in forms} == {"(1-(1))", "(-1--1)", "((1)-1)"}


def test_a_product_comes_before_sums_without_brackets():
    values = dict(recall_tasks.unbracketed(5, random.Random(seed)) for seed in range(300))
    assert any(
        eval(text) % 5 != (eval(text[:3]) * int(text[4])) % 5 for text in values if text[3] == "*"
    )  # from left to right some would be others
    assert all(eval(text) % 5 == value for text, value in values.items())


@pytest.mark.parametrize("name", ["palindrome", "stack", "stacks", "arithmetic", "brackets"])
def test_a_task_is_judged_longer_than_it_is_trained_and_fits_its_vocabulary(name):
    task = TASKS[name]
    assert task.tested[-1][0] >= 4 * task.trained[-1][0] - 3
    for length, load in (*task.trained[-2:], task.tested[0]):
        ids, targets = task.examples(2, length, load, GENERATOR)
        assert ids.shape == (2, length)
        assert ids.max() < task.vocab and targets.max() < task.vocab and (targets >= 0).any()


@pytest.mark.parametrize("name", ["palindrome", "stacks", "arithmetic", "brackets"])
def test_the_same_seed_gives_the_same_examples(name):
    first, again, other = (
        TASKS[name].examples(2, 40, 1, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])

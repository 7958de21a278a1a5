"""The examples of the probes of `benchmarks.recall`: what is read, and what is asked where."""

import itertools
import random
from collections.abc import Callable

import torch
from jaxtyping import Int
from torch import Tensor

from liquidlm.text.batches import IGNORED

Examples = tuple[Int[Tensor, "b t"], Int[Tensor, "b t"]]
"""Ids, and at each position what is asked there; −100 where nothing is."""
LETTERS = 28
"""Ids of copying and palindrome: 1 is the mark, 2…27 are letters."""
STACKS, DEPTH, ELEMENTS = 64, 64, 32
"""Stacks at most, elements in one at most, and elements to choose from."""
PUSH, POP = ELEMENTS + STACKS, ELEMENTS + STACKS + 1
"""Ids of the operations; 0…31 are elements, and the next 64 are stacks."""
MODULUS, SIGNS = 5, "+-*=()"
"""Ids of arithmetic: 0…4 are digits, and the next are the signs."""


def mqar(rows: int, length: int, pairs: int, generator: torch.Generator, vocab: int = 8192) -> Examples:
    """Multi-query associative recall (Arora et al. 2024): `pairs` keys and values, then every key again, at
    random even places among random tokens; its value is asked."""
    keys = _distinct(rows, pairs, vocab // 2 - 1, generator) + 1
    values = _distinct(rows, pairs, vocab // 2, generator) + vocab // 2
    ids = torch.randint(0, vocab, (rows, length), generator=generator, device=generator.device)
    targets = torch.full_like(ids, IGNORED)
    ids[:, : 2 * pairs] = torch.stack([keys, values], 2).flatten(1)
    places = 2 * pairs + 2 * _distinct(rows, pairs, (length - 2 * pairs) // 2, generator)
    ids.scatter_(1, places, keys)
    targets.scatter_(1, places, values)
    return ids, targets


def passkey(rows: int, length: int, digits: int, generator: torch.Generator, vocab: int = 64) -> Examples:
    """A number somewhere in a text that repeats itself, asked at its end (Mohtashami & Jaggi 2023)."""
    device = generator.device
    filler = torch.randint(20, vocab, (96,), generator=torch.Generator().manual_seed(1)).to(device)
    offset = torch.randint(0, 96, (rows, 1), generator=generator, device=device)
    ids = filler[(offset + torch.arange(length, device=device)) % 96]
    key = torch.randint(0, 10, (rows, digits), generator=generator, device=device)
    room = length - 2 * digits - 2
    place = (torch.rand(rows, 1, generator=generator, device=device) * room).long()
    ids.scatter_(1, place, 10)
    ids.scatter_(1, place + 1 + torch.arange(digits, device=device), key)
    ids[:, -digits - 1] = 11
    ids[:, -digits:] = key
    targets = torch.full_like(ids, IGNORED)
    targets[:, -digits - 1 : -1] = key
    return ids, targets


def copying(rows: int, length: int, _: int, generator: torch.Generator, vocab: int = LETTERS) -> Examples:
    """(length − 1)/2 random letters, a mark, and the letters again."""
    shape = rows, (length - 1) // 2
    letters = torch.randint(2, vocab, shape, generator=generator, device=generator.device)
    return _asked_again(letters, letters)


def word_problem(order: int) -> Callable[..., Examples]:
    """Elements of the symmetric group S_n; at each the product of all so far is asked. S₂ is parity."""
    group = list(itertools.permutations(range(order)))
    index = {element: i for i, element in enumerate(group)}
    table = torch.tensor([[index[tuple(a[i] for i in b)] for b in group] for a in group])

    def examples(rows: int, length: int, _: int, generator: torch.Generator) -> Examples:
        ids = torch.randint(0, len(group), (rows, length), generator=generator, device=generator.device)
        product, targets, products = ids[:, 0], [ids[:, 0]], table.to(ids.device)
        for column in ids[:, 1:].unbind(1):
            product = products[product, column]
            targets.append(product)
        return ids, torch.stack(targets, 1)

    return examples


def _distinct(rows: int, count: int, limit: int, generator: torch.Generator) -> Int[Tensor, "b n"]:
    """Per row `count` different numbers under `limit`."""
    return torch.rand(rows, limit, generator=generator, device=generator.device).argsort(1)[:, :count]


def palindrome(rows: int, length: int, _: int, generator: torch.Generator, vocab: int = LETTERS) -> Examples:
    """(length − 1)/2 random letters, a mark, and the letters from the last to the first (Kimi Team 2025)."""
    shape = rows, (length - 1) // 2
    letters = torch.randint(2, vocab, shape, generator=generator, device=generator.device)
    return _asked_again(letters, letters.flip(1))


def _asked_again(letters: Int[Tensor, "b n"], asked: Int[Tensor, "b n"]) -> Examples:
    """The letters, a mark, and what is asked."""
    ids = torch.cat([letters, torch.ones_like(letters[:, :1]), asked], 1)
    targets = torch.full_like(ids, IGNORED)
    targets[:, -asked.shape[1] - 1 : -1] = asked
    return ids, targets


def stacks(rows: int, length: int, count: int, generator: torch.Generator) -> Examples:
    """Pushes and pops on `count` stacks of up to 64 elements; at a pop its element is asked (Kimi Team 2025).

    An operation is three tokens: push or pop, the stack, the element. In the first half three of four are
    pushes, in the second three of four are pops, so that a stack fills and empties.
    """
    dice = _dice(generator)
    made = [_operations(length // 3, count, dice) for _ in range(rows)]
    ids = torch.tensor(made, device=generator.device)
    targets = torch.full_like(ids, IGNORED)
    popped = ids[:, 0::3] == POP
    targets[:, 1::3] = ids[:, 2::3].where(popped, IGNORED)
    return ids, targets


def _operations(operations: int, count: int, dice: random.Random) -> list[int]:
    """The tokens of so many operations."""
    held: list[list[int]] = [[] for _ in range(count)]
    ids = []
    for number in range(operations):
        stack = dice.randrange(count)
        pushes = dice.random() < (0.75 if 2 * number < operations else 0.25)
        if not held[stack] or (pushes and len(held[stack]) < DEPTH):
            held[stack].append(dice.randrange(ELEMENTS))
            ids += [PUSH, ELEMENTS + stack, held[stack][-1]]
        else:
            ids += [POP, ELEMENTS + stack, held[stack].pop()]
    return ids


def arithmetic(rows: int, length: int, brackets: int, generator: torch.Generator) -> Examples:
    """An expression modulo 5 of length − 1 tokens and "=", where its value is asked (Delétang et al. 2023).

    Without brackets the products come first, and the expression has an odd number of tokens. With them,
    every operation has its own.
    """
    dice = _dice(generator)
    write = bracketed if brackets else unbracketed
    made = [write(length - 1, dice) for _ in range(rows)]
    ids = torch.tensor([arithmetic_ids(text + "=") for text, _ in made], device=generator.device)
    targets = torch.full_like(ids, IGNORED)
    targets[:, -1] = torch.tensor([value for _, value in made], device=generator.device)
    return ids, targets


def arithmetic_ids(text: str) -> list[int]:
    """The ids of digits and signs.

    >>> arithmetic_ids("(2*-4)=")
    [9, 2, 7, 6, 4, 10, 8]
    """
    return [MODULUS + SIGNS.index(sign) if sign in SIGNS else int(sign) for sign in text]


def unbracketed(length: int, dice: random.Random) -> tuple[str, int]:
    """A random expression such as "1+2*3-4" of so many signs, an odd number, and its value modulo 5."""
    product = dice.randrange(MODULUS)
    text, total, sign = str(product), 0, 1
    for _ in range(length // 2):
        operation, digit = dice.choice("+-*"), dice.randrange(MODULUS)
        text += f"{operation}{digit}"
        if operation == "*":
            product *= digit
        else:
            total, sign, product = total + sign * product, 1 if operation == "+" else -1, digit
    return text, (total + sign * product) % MODULUS


def bracketed(length: int, dice: random.Random) -> tuple[str, int]:
    """A random expression such as "((1+2)*-3)" of so many signs, and its value modulo 5.

    Its two parts have random lengths. Parts of one to four signs are 1, -1, (1) and (-1).
    """
    if length < 5:
        digit = dice.randrange(MODULUS)
        form, sign = (("{}", 1), ("-{}", -1), ("({})", 1), ("(-{})", -1))[length - 1]
        return form.format(digit), sign * digit % MODULUS
    first = dice.randint(1, length - 4)
    (left, a), (right, b) = bracketed(first, dice), bracketed(length - 3 - first, dice)
    operation = dice.choice("+-*")
    value = {"+": a + b, "-": a - b, "*": a * b}[operation]
    return f"({left}{operation}{right})", value % MODULUS


def _dice(generator: torch.Generator) -> random.Random:
    """Random numbers for Python's own loops, by the generator."""
    seed = torch.randint(2**62, (), generator=generator, device=generator.device)
    return random.Random(int(seed))

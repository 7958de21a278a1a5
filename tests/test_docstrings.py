"""The examples in docstrings: each of them runs and prints what it says."""

import doctest
import pkgutil
from importlib import import_module

import pytest
import torch

import liquidlm

MODULES = [
    found.name
    for found in pkgutil.walk_packages(liquidlm.__path__, "liquidlm.")
    if not found.name.startswith("liquidlm.pretrained.") and found.name != "liquidlm.__main__"
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_a_module(name: str) -> None:
    examples = doctest.DocTestFinder(exclude_empty=True).find(import_module(name))
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    with torch.random.fork_rng(devices=[]):
        for example in examples:
            torch.manual_seed(0)
            runner.run(example)
    assert runner.summarize(verbose=False).failed == 0

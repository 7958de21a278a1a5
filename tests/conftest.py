"""Fixtures and settings of all tests."""

import jaxtyping
import pytest
import torch
from hypothesis import settings

# The same examples every time; a slow machine is no failure.
settings.register_profile("liquidlm", derandomize=True, deadline=None)
settings.load_profile("liquidlm")


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture
def as_users_run():
    """Without the shape checks of the tests, which would speak before the package's own errors."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)

"""The device that a user names: refused with one line where it cannot be used."""

import pytest
import torch

from liquidlm.errors import LiquidError
from liquidlm.runtime.precision import best_device, chosen_device
from liquidlm.training.processes import processes


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mps", "Apple's GPU .mps. has no float64"),
        ("gpu", "unknown device 'gpu': give cpu, cuda, or cuda:N"),
        ("cuda:99", "device cuda:99 is not available"),
        ("meta", "unknown device .meta.: give cpu"),
    ],
)
def test_a_device_that_cannot_be_used_is_refused(name: str, message: str) -> None:
    with pytest.raises(LiquidError, match=message) as caught:
        chosen_device(name)
    assert "\n" not in str(caught.value)


def test_a_named_device_is_the_one_that_trains() -> None:
    assert chosen_device("cpu") == torch.device("cpu") and chosen_device(None) == best_device()
    with processes(chosen_device("cpu")) as found:
        assert found.device == torch.device("cpu")


def test_several_processes_do_not_share_one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "a run")
    with pytest.raises(LiquidError, match="cannot share cuda:0"), processes(torch.device("cuda", 0)):
        pass

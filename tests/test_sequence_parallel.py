"""One text over several processes: as over one."""

import json
from functools import partial  # noqa: F401 - for the program

import pytest
import torch
import torch.distributed as dist
from helpers import randomise
from test_processes import python

import liquidlm.model.segments
from liquidlm.errors import LiquidError
from liquidlm.model.config import LiquidConfig
from liquidlm.model.pretrained import LiquidTextGenerationModel
from liquidlm.training.sequence_parallel import sequence_parallel

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="torch was built without gloo")


def in_parts(segment: int) -> None:
    """Prints how far loss, logits, the state at the end and every gradient are from one process's, with
    `segment` tokens going through the blocks together."""
    liquidlm.model.segments.SEGMENT = segment
    dist.init_process_group("gloo")
    rank, count = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    sizes = {"vocab_size": 64, "latent_dim": 8, "hidden_size": 16, "num_hidden_layers": 4}
    tied = segment == 20
    sizes |= {"embedding_dim": 16 if tied else 12, "tie_word_embeddings": tied}
    small = {"flow_hidden_dim": 8, "num_flows": 2, "num_heads": 2, "chunk_size": 8, "dropout_rate": 0.0}
    small["time_components"] = 3
    model = randomise(LiquidTextGenerationModel(LiquidConfig(**sizes, **small))).double()
    ids = torch.randint(3, 64, (2, 101))
    times = (torch.rand(2, 101, dtype=torch.float64) * 3).cumsum(1)
    times[:, 40] = times[:, 39]
    starts = torch.zeros(2, 101, dtype=torch.bool)
    starts[1, 60] = True
    worst = {}
    for training in (True, False, "frozen"):
        model.train(bool(training))
        model.embedding.requires_grad_(training != "frozen")
        for name, given in (("times", {"timestamps": times, "starts": starts}), ("plain", {})):
            model.zero_grad()
            whole = model(ids, labels=ids, use_cache=True, **given)
            whole.loss.backward()
            trained = [parameter for parameter in model.parameters() if parameter.grad is not None]
            expected = [parameter.grad.clone() for parameter in trained]
            model.zero_grad()
            part = sequence_parallel(model, ids, labels=ids, **given)
            part.loss.backward()
            loss = part.loss.detach().clone()
            dist.all_reduce(loss)
            errors = [(loss / count - whole.loss).abs()]
            for parameter, grad in zip(trained, expected, strict=True):
                dist.all_reduce(parameter.grad)
                errors.append((parameter.grad / count - grad).abs().max() / grad.abs().max().clamp(min=1e-12))
            if rank == count - 1:
                ends = zip(part.state.tensors().values(), whole.state.tensors().values(), strict=True)
                errors += [(a - b).abs().max() for a, b in ends]
            if not training:
                mine = slice(101 * rank // count, 101 * (rank + 1) // count)
                errors.append((part.logits - whole.logits[:, mine]).abs().max())
            worst[f"{name} {training}"] = torch.stack(errors).max().item()
    back = times.clone()
    back[0, 100] = 0.0  # in the last process's part
    for given in ({"input_ids": ids, "timestamps": back}, {"input_ids": ids + 1000}):
        try:
            sequence_parallel(model, **given)
        except LiquidError:
            continue
        raise SystemExit("a mistake went unseen")
    print(f"\n{json.dumps([segment, worst])}", flush=True)
    dist.destroy_process_group()


CASES = ((2, 4096), (3, 20))


@pytest.fixture(scope="module")
def differences() -> list[tuple[int, dict[str, float]]]:
    said = python(
        "from forked import fork\nfrom test_sequence_parallel import *\n"
        "for count, segment in CASES: assert not any(fork(count, partial(in_parts, segment)))"
    )
    return [json.loads(line) for line in said.splitlines() if line.startswith("[")]


@pytest.mark.parametrize(("count", "segment"), CASES)
def test_one_text_over_several_processes_is_as_over_one(differences, count: int, segment: int) -> None:
    """In float64."""
    found = [worst for of, worst in differences if of == segment]
    print(found)
    assert len(found) == count
    assert all(len(worst) == 6 and max(worst.values()) < 1e-10 for worst in found)


def test_what_cannot_be_divided_is_refused(monkeypatch) -> None:
    sizes = {"vocab_size": 64, "latent_dim": 8, "hidden_size": 16, "num_hidden_layers": 2}
    model, ids = LiquidTextGenerationModel(LiquidConfig(**sizes, embedding_dim=12)), torch.full((1, 9), 3)
    with pytest.raises(LiquidError, match="needs several processes"):
        sequence_parallel(model, ids)
    for name, value in (("is_initialized", True), ("get_rank", 0), ("get_world_size", 3)):
        monkeypatch.setattr(dist, name, lambda value=value: value)
    with pytest.raises(LiquidError, match="2 tokens cannot be divided between 3 processes"):
        sequence_parallel(model, ids[:, :2])
    model.recompute_activations()
    with pytest.raises(LiquidError, match="activation checkpointing"):
        sequence_parallel(model.train(), ids)

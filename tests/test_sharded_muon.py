"""Muon of sharded matrices: as of whole ones, and divided between the processes."""

import json

import pytest
import torch
import torch.distributed as dist
from test_processes import python
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from liquidlm.training.muon import Muon
from liquidlm.training.sharded_muon import ShardedMuon

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="torch was built without gloo")
OPTIONS = {"lr": 0.1, "weight_decay": 0.5, "momentum": 0.9, "bf16": False}


def in_shards() -> None:
    """Prints how far matrices and momenta are from those of one process, over a saving and loading."""
    dist.init_process_group("gloo")
    mesh, generator = init_device_mesh("cpu", (2,)), torch.Generator().manual_seed(0)

    def draw(shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    wholes = [nn.Parameter(draw(shape)) for shape in ((6, 4), (4, 6), (5, 4))]
    shards = [nn.Parameter(distribute_tensor(w.detach().clone(), mesh, [Shard(0)])) for w in wholes]
    one, many = Muon(wholes, **OPTIONS), ShardedMuon(shards, **OPTIONS)
    assert many.state_dict()["state"] == {}  # nothing was done yet
    errors = []
    for step in range(4):
        if step == 2:
            kept = many.state_dict()
            momenta = [kept["state"][i]["momentum_buffer"] for i in range(3)]
            errors += [
                (mine - one.state[w]["momentum_buffer"]).abs().max()
                for mine, w in zip(momenta, wholes, strict=True)
            ]
            many = ShardedMuon(shards, **OPTIONS)
            many.load_state_dict(kept)
        for whole, shard in zip(wholes, shards, strict=True):
            whole.grad = draw(whole.shape)
            shard.grad = distribute_tensor(whole.grad, mesh, [Shard(0)])
        one.step()
        many.step()
        errors += [(s.full_tensor() - w).abs().max() for s, w in zip(shards, wholes, strict=True)]
    many.zero_grad()
    assert all(shard.grad is None for shard in shards)
    print(f"\n{json.dumps([sorted(many.owned), torch.stack(errors).max().item()])}", flush=True)
    dist.destroy_process_group()


def test_a_step_is_that_of_one_process_and_its_work_is_divided() -> None:
    said = python(
        "from forked import fork\nfrom test_sharded_muon import *\nassert not any(fork(2, in_shards))"
    )
    found = [json.loads(line) for line in said.splitlines() if line.startswith("[")]
    assert sorted(owned for owned, _ in found) == [[0, 2], [1]]
    assert max(error for _, error in found) < 1e-12

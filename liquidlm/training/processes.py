"""Several processes that train one model together: started by torchrun, on one machine or on many.

The rows of every batch are divided between them; weights, gradients and optimisers are sharded (FSDP2).
Everything here must be called by all of them alike.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    set_model_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.fsdp import fully_shard
from torch.distributed.rendezvous import rendezvous
from torch.distributed.tensor import DTensor, distribute_tensor

from ..errors import LiquidError
from ..model.pretrained import LiquidTextGenerationModel
from ..runtime.precision import best_device

PATIENCE = timedelta(days=1)
"""How long the others wait while the first process tokenizes, evaluates or saves. torchrun itself ends those
of a machine when one of them dies."""


@dataclass(frozen=True)
class Processes:
    """This process among those of a run.

    Attributes:
        device: where it computes.
        rank, count: its number, and how many there are; one process alone has nothing to agree on.
        local_rank: its number among those of its machine.
    """

    device: torch.device
    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        """Whether it is the one that evaluates, writes files and speaks."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        return self.count == 1

    def wait(self) -> None:
        """Until all are here."""
        self.total(0.0)

    def total(self, *numbers: int | float) -> list[int | float]:
        """The sum over all processes of each of the numbers."""
        if self.alone:
            return list(numbers)
        summed = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(summed)
        return summed.tolist()

    def of_first(self, *numbers: int | float) -> list[int | float]:
        """The first process's numbers."""
        return self.total(*(number if self.first else 0.0 for number in numbers))

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is inside succeeds in all processes, or all end: the first that cannot says why (LiquidError),
        the others end quietly."""
        error: LiquidError | None = None
        try:
            yield
        except LiquidError as mine:
            error = mine
        failed = self.total(*(error is not None and rank == self.rank for rank in range(self.count)))
        if not any(failed):
            return
        if error is not None and not any(failed[: self.rank]):
            raise error
        raise SystemExit(2)

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """What is inside is done by the first process, then by one of every machine, then by the others: they
        find what those have put into the caches, whether the machines share them or not."""
        turn = 0 if self.first else 1 if self.local_rank == 0 else 2
        for _ in range(turn):
            self.wait()
        try:
            yield
        finally:
            for _ in range(2 - turn):
                self.wait()

    def rows(self, batch: Shaped[Tensor, "b ..."]) -> Shaped[Tensor, "own ..."]:
        """This process's rows of a batch."""
        size = len(batch) // self.count
        return batch[self.rank * size : (self.rank + 1) * size]

    def all_rows(self, own: Shaped[Tensor, "own ..."]) -> Shaped[Tensor, "b ..."]:
        """What `rows` has taken apart, in the first process; the others get their own back."""
        if self.alone:
            return own
        own = own.detach().cpu().contiguous()
        parts = [torch.empty_like(own) for _ in range(self.count)] if self.first else None
        dist.gather(own, parts)
        return own if parts is None else torch.cat(parts)

    def shard(self, model: LiquidTextGenerationModel) -> LiquidTextGenerationModel:
        """The model with its parameters sharded, block by block; itself, if there is nobody to share with."""
        if self.alone:
            return model
        mesh = init_device_mesh(self.device.type, (self.count,))
        for block in model.blocks:
            fully_shard(block, mesh=mesh)
        empty = {parameter for parameter in model.parameters() if not parameter.numel()}
        fully_shard(model, mesh=mesh, ignored_params=empty)
        return model

    def copy_to_first(self, model: LiquidTextGenerationModel, whole: LiquidTextGenerationModel) -> None:
        """Bring an unsharded copy, which the first process has, up to date."""
        if not self.alone:
            options = StateDictOptions(full_state_dict=True, cpu_offload=True)
            weights = get_model_state_dict(model, options=options)
            if self.first:
                whole.load_state_dict(weights)


def load_weights(model: LiquidTextGenerationModel, weights: dict[str, Tensor]) -> None:
    """Take over whole weights into a model, sharded or not."""
    set_model_state_dict(model, weights, options=StateDictOptions(full_state_dict=True))  # pyright: ignore[reportArgumentType]


def whole(value: Tensor) -> Tensor:
    """A sharded tensor put together again; any other as it is."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def sharded_like(value: Tensor, parameter: Tensor) -> Tensor:
    """A whole tensor of the parameter's shape, sharded as that is; any other as it is."""
    if isinstance(parameter, DTensor) and value.shape == parameter.shape:
        value = value.to(parameter.device)
        return distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)
    return value


@contextmanager
def processes(device: torch.device | None = None) -> Iterator[Processes]:
    """The processes that torchrun has started, joined; or this one alone.

    Args:
        device: where to compute. None: the GPU if there is one; under torchrun each process its own GPU.

    Raises:
        LiquidError: there are fewer GPUs than processes, or torchrun's processes are given one GPU.
    """
    device = best_device() if device is None else device
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        if device.index is not None:
            torch.cuda.set_device(device)
        yield Processes(device)
        return
    if device.index is not None:
        raise LiquidError(f"several processes cannot share {device}: leave --device out, or give cpu or cuda")
    rank, count, local_rank = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    if device.type == "cuda":
        if local_rank >= torch.cuda.device_count():
            raise LiquidError(
                f"there are {torch.cuda.device_count()} GPUs for process {local_rank} of this machine: start"
                " one process per GPU (torchrun --nproc-per-node)"
            )
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    backend, how = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", {}
    if count == int(os.environ["LOCAL_WORLD_SIZE"]):
        # On one machine torchrun restarts with the same store, where the addresses of the dead still stand.
        store, *_ = next(rendezvous("env://", timeout=PATIENCE))
        attempt = PrefixStore(f"attempt {os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
        how = {"store": attempt, "rank": rank, "world_size": count}
    dist.init_process_group(backend, timeout=PATIENCE, **how)
    with warnings.catch_warnings():
        # States are views here and there; nothing is done to them in place, of which FSDP2 warns.
        warnings.filterwarnings("ignore", "FSDP2-wrapped module")
        yield Processes(device, rank, count, local_rank)
    dist.destroy_process_group()  # not after an error: the others would have to take part

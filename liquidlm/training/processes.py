"""Training of one model in several processes, which torchrun starts on one machine or on several.

The processes divide the rows of each batch. Weights, gradients and optimiser states are sharded (FSDP2; Zhao
et al. 2023, arXiv 2304.11277). All processes must call these functions in the same order.
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
"""Longest time that processes wait while the first one tokenizes, evaluates or saves. If a process dies,
torchrun ends the others on its machine."""


@dataclass(frozen=True)
class Processes:
    """This process and its communication with the other processes of a run.

    A run without torchrun has one process; then nothing is communicated.

    Attributes:
        device: device of this process.
        rank: number of this process, from 0.
        count: number of processes in the run (the world size).
        local_rank: number of this process on its machine, from 0.

    Example:
        >>> one = Processes(torch.device("cpu"))
        >>> one.first, one.alone, one.total(2, 3)
        (True, True, [2, 3])
    """

    device: torch.device
    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        """Whether this process evaluates, writes files and prints."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        """Whether the run has only this process."""
        return self.count == 1

    def wait(self) -> None:
        """Wait until all processes have called this (a barrier)."""
        self.total(0.0)

    def total(self, *numbers: int | float) -> list[int | float]:
        """Each number summed over all processes."""
        if self.alone:
            return list(numbers)
        summed = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(summed)
        return summed.tolist()

    def of_first(self, *numbers: int | float) -> list[int | float]:
        """The numbers of the first process, in all processes."""
        return self.total(*(number if self.first else 0.0 for number in numbers))

    @contextmanager
    def propagate_errors(self) -> Iterator[None]:
        """If the code inside raises LiquidError in one process, all processes end.

        Raises:
            LiquidError: in the failed process with the lowest rank.
            SystemExit: in all other processes, with code 2.
        """
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
    def main_process_first(self) -> Iterator[None]:
        """Run the code inside in the first process, then in one process per machine, then in the others.

        So the later processes find the files in the caches, whether the machines share them or not.
        """
        turn = 0 if self.first else 1 if self.local_rank == 0 else 2
        for _ in range(turn):
            self.wait()
        try:
            yield
        finally:
            for _ in range(2 - turn):
                self.wait()

    def rows(self, batch: Shaped[Tensor, "b ..."]) -> Shaped[Tensor, "own ..."]:
        """The rows of a batch that belong to this process."""
        size = len(batch) // self.count
        return batch[self.rank * size : (self.rank + 1) * size]

    def all_rows(self, own: Shaped[Tensor, "own ..."]) -> Shaped[Tensor, "b ..."]:
        """Gather the rows of all processes in the first (the inverse of `rows`); the others get their own."""
        if self.alone:
            return own
        own = own.detach().cpu().contiguous()
        parts = [torch.empty_like(own) for _ in range(self.count)] if self.first else None
        dist.gather(own, parts)
        return own if parts is None else torch.cat(parts)

    def shard(self, model: LiquidTextGenerationModel) -> LiquidTextGenerationModel:
        """Shard the parameters of a model, block by block. With one process the model stays as it is."""
        if self.alone:
            return model
        mesh = init_device_mesh(self.device.type, (self.count,))
        for block in model.blocks:
            fully_shard(block, mesh=mesh)
        empty = {parameter for parameter in model.parameters() if not parameter.numel()}
        fully_shard(model, mesh=mesh, ignored_params=empty)
        return model

    def copy_to_first(self, model: LiquidTextGenerationModel, full_model: LiquidTextGenerationModel) -> None:
        """Copy the weights of a sharded model into `full_model`, the unsharded model of the first process."""
        if not self.alone:
            options = StateDictOptions(full_state_dict=True, cpu_offload=True)
            weights = get_model_state_dict(model, options=options)
            if self.first:
                full_model.load_state_dict(weights)


def load_weights(model: LiquidTextGenerationModel, weights: dict[str, Tensor]) -> None:
    """Load unsharded weights into a model, which may be sharded."""
    set_model_state_dict(model, weights, options=StateDictOptions(full_state_dict=True))  # pyright: ignore[reportArgumentType]


def full_tensor(value: Tensor) -> Tensor:
    """The unsharded value of a sharded tensor; any other tensor as it is.

    All processes must call it together.
    """
    return value.full_tensor() if isinstance(value, DTensor) else value


def sharded_like(value: Tensor, parameter: Tensor) -> Tensor:
    """Shard a tensor like a parameter of the same shape; any other tensor is returned as it is."""
    if isinstance(parameter, DTensor) and value.shape == parameter.shape:
        value = value.to(parameter.device)
        return distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)
    return value


@contextmanager
def processes(device: torch.device | None = None) -> Iterator[Processes]:
    """Connect the processes that torchrun has started, or return this process alone; a context manager.

    Args:
        device: device to compute on. None: the GPU if there is one. With torchrun each process has its
            own GPU.

    Raises:
        LiquidError: a machine has fewer GPUs than processes, or `device` names one GPU for several processes.
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
        # On one machine torchrun restarts with the same store: it still has the addresses of dead processes.
        store, *_ = next(rendezvous("env://", timeout=PATIENCE))
        attempt = PrefixStore(f"attempt {os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
        how = {"store": attempt, "rank": rank, "world_size": count}
    dist.init_process_group(backend, timeout=PATIENCE, **how)
    with warnings.catch_warnings():
        # FSDP2 warns of views that are changed in place. Some states are views, but none is changed in place.
        warnings.filterwarnings("ignore", "FSDP2-wrapped module")
        yield Processes(device, rank, count, local_rank)
    dist.destroy_process_group()  # not after an error: all processes would have to take part

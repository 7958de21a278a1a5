"""Muon for matrices that are sharded over processes (FSDP2)."""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import DTensor, distribute_tensor

from .muon import Muon


class ShardedMuon(Muon):
    """Muon (Keller Jordan et al. 2024) for sharded matrices; one process updates each matrix.

    The iteration of Muon needs unsharded matrices. With W processes, process i mod W owns
    matrix i and its momentum. In a step each owner receives the unsharded matrix and its gradient, updates
    the matrix, and sends the shards to all processes. The result is the same as with one process. Each
    process does 1/W of the work and keeps 1/W of the momenta.

    Args:
        matrices: two-dimensional parameters, all sharded over the same processes.
        options: arguments of `Muon`: lr, weight_decay, momentum, bf16.
    """

    def __init__(self, matrices: list[DTensor], **options: Any):
        mesh = matrices[0].device_mesh
        self.matrices, self.rank, self.count = matrices, mesh.get_local_rank(), mesh.size()
        self.owned = {
            number: nn.Parameter(self._empty(matrix))
            for number, matrix in enumerate(matrices)
            if self._owner(number) == self.rank
        }
        nothing = nn.Parameter(torch.zeros(1, 1))  # torch refuses an optimiser without parameters
        super().__init__([*self.owned.values()] or [nothing], **options)

    @staticmethod
    def _empty(matrix: DTensor) -> torch.Tensor:
        """An uninitialized tensor of the unsharded shape."""
        return torch.empty(matrix.shape, dtype=matrix.dtype, device=matrix.to_local().device)

    def _owner(self, number: int) -> int:
        return number % self.count

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:
        """Update all matrices; all processes call it together."""
        for number, matrix in enumerate(self.matrices):
            value, grad = matrix.full_tensor(), matrix.grad.full_tensor()  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue]
            if number in self.owned:
                self.owned[number].copy_(value)
                self.owned[number].grad = grad
        super().step(closure)
        for number, matrix in enumerate(self.matrices):
            new = self.owned[number].detach() if number in self.owned else self._empty(matrix)
            source = self._owner(number)
            matrix.copy_(distribute_tensor(new, matrix.device_mesh, matrix.placements, src_data_rank=source))

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Delete the gradients of the sharded matrices and of their unsharded copies."""
        super().zero_grad(set_to_none)
        for matrix in self.matrices:
            matrix.grad = None

    def state_dict(self) -> dict[str, Any]:
        """The state of Muon without sharding: momenta of all matrices. All processes call it together."""
        momenta: dict[int, dict[str, torch.Tensor]] = {}
        started = torch.tensor(float(any(self.state[parameter] for parameter in self.owned.values())))
        dist.all_reduce(started, dist.ReduceOp.MAX)  # a process without matrices does not know
        if not started:
            return {**super().state_dict(), "state": {}}
        for number, matrix in enumerate(self.matrices):
            if number in self.owned:
                momentum = self.state[self.owned[number]]["momentum_buffer"]
            else:
                momentum = self._empty(matrix)
            dist.broadcast(momentum, self._owner(number))
            momenta[number] = {"momentum_buffer": momentum}
        return {**super().state_dict(), "state": momenta}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the momenta of the matrices that this process owns, from a state with the momenta of all."""
        for number, parameter in self.owned.items():
            if number in state_dict["state"]:
                momentum = state_dict["state"][number]["momentum_buffer"]
                self.state[parameter]["momentum_buffer"] = momentum.to(parameter.device).clone()

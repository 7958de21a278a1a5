"""The compiled kernels, if there are any: found, checked and called here.

`LIQUIDLM_NATIVE=0` turns them off. `LIQUIDLM_NATIVE=avx2`, `avx512` or `baseline` chooses the instruction
set; without it the best set of the processor is used. Where there are no kernels, the forms in torch run.
"""

import ctypes
import os
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...errors import LiquidError
from .build import LIBRARY, fingerprint, instruction_sets

SWITCH = "LIQUIDLM_NATIVE"
CAPABILITIES = {"AVX512": 2, "AVX2": 1}
"""torch's names of what the processor has, ▶ how many sets above the baseline it can run."""
TYPES = (torch.float32, torch.bfloat16)
"""The types of the inputs that kernels take. float64 stays with torch."""
PLAIN = (Tensor, torch.nn.Parameter)


class Kernels(NamedTuple):
    """The kernels that this process uses.

    Attributes:
        library: the loaded library, or None.
        name: its instruction set, or "torch" without a library.
        reason: why there is no library, or why it has one thread, in words for the user; else empty.
    """

    library: ctypes.CDLL | None
    name: str
    reason: str


@cache
def kernels() -> Kernels:
    """The kernels of this process; loaded at the first call.

    Raises:
        LiquidError: LIQUIDLM_NATIVE is not 0, 1 or a set that this processor has.
    """
    wanted = os.environ.get(SWITCH, "1").lower()
    if wanted == "0":
        return Kernels(None, "torch", f"{SWITCH}=0")
    sets = runnable_sets()
    if wanted not in ("", "1", *sets):
        raise LiquidError(f"{SWITCH}={wanted} is unknown here: give 0, 1, or one of {', '.join(sets)}")
    if not LIBRARY.is_file():
        return Kernels(None, "torch", "not built: no C++ compiler at installation, or it failed")
    name = wanted if wanted in sets else sets[0]
    try:
        library = ctypes.CDLL(str(LIBRARY))  # after torch: both use the OpenMP that torch has loaded
        stamp = library[f"fingerprint_{name}"]
    except (OSError, AttributeError) as error:
        return Kernels(None, "torch", f"{LIBRARY.name} does not load: {error}")
    stamp.restype = ctypes.c_char_p
    if stamp().decode() != fingerprint():
        return Kernels(None, "torch", f"{LIBRARY.name} is of other sources: install liquidlm again")
    threads = library[f"has_threads_{name}"]()
    return Kernels(library, name, "" if threads else "one thread: the compiler had no OpenMP")


def runnable_sets() -> Sequence[str]:
    """The sets of the library that this processor has, the best first."""
    sets = list(instruction_sets())
    above = CAPABILITIES.get(torch.backends.cpu.get_cpu_capability(), 0)
    return sets[max(0, len(sets) - 1 - above) :]


def takes(*inputs: Tensor | None, wide: Sequence[Tensor | None] = ()) -> bool:
    """Whether the kernels can compute with these tensors: plain ones on a CPU, in the types they know.

    torch.compile, torch.export and the transforms of torch.func need torch's own operations.

    Args:
        inputs: each in float32 or bfloat16.
        wide: each in float32: states, times and what sets time constants.
    """
    transformed = torch._C._functorch.peek_interpreter_stack() is not None  # pyright: ignore[reportAttributeAccessIssue]
    if transformed or torch.compiler.is_compiling():
        return False
    for given, types in ((inputs, TYPES), (wide, TYPES[:1])):
        for x in given:
            if x is not None and not (type(x) in PLAIN and x.device.type == "cpu" and x.dtype in types):
                return False
    return kernels().library is not None


def call(name: str, *arguments: Tensor | int | float | None) -> int:
    """Run a kernel.

    Args:
        name: without its instruction set.
        arguments: contiguous tensors, given as their addresses; None as a null pointer; int and bool as
            int64; float as double.

    Returns:
        what the kernel returns, as an int64.
    """
    loaded = kernels()
    function = loaded.library[f"{name}_{loaded.name}"]  # pyright: ignore[reportOptionalSubscript]
    function.restype = ctypes.c_int64
    return function(*map(_argument, arguments))


def _argument(x: Tensor | int | float | None) -> Any:
    if x is None:
        return ctypes.c_void_p()
    if isinstance(x, Tensor):
        assert x.is_contiguous()
        return ctypes.c_void_p(x.data_ptr())
    return ctypes.c_double(x) if isinstance(x, float) else ctypes.c_int64(x)

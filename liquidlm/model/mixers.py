"""The kinds of blocks: MIXERS has the mixer of each kind, by its name in `LiquidConfig.mixer_types`.

To add a kind:

1. Write the mixer in `liquidlm/nn/cells/`: a `TimeMixer` with another `context`, `_cell` or `mix`.
2. Write a function here that builds it from a config, and add it to MIXERS under a name.

`LiquidConfig(mixer_types=["time", NAME, …])` then builds blocks of this kind. They train, keep a state and
write text as the others do. A lean form in `step_blocks.py` makes writing faster; it is optional.

The functions import what they build, so that a command can check a kind's name without torch.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..nn.cells import TimeMixer
    from .config import LiquidConfig


def time_mixer(config: "LiquidConfig") -> "TimeMixer":
    """The liquid time cell alone."""
    from ..nn.cells import TimeMixer

    return TimeMixer(
        config.hidden_size, config.dropout_rate, conv_width=config.conv_width, time_scale=config.time_scale
    )


def memory_mixer(config: "LiquidConfig") -> "TimeMixer":
    """A matrix memory whose reads drive the liquid time cell."""
    from ..nn.cells import AsyncLiquidCell

    return AsyncLiquidCell(
        config.hidden_size,
        config.dropout_rate,
        num_heads=config.num_heads,
        num_writes=config.num_writes,
        conv_width=config.conv_width,
        chunk_size=config.chunk_size,
        time_scale=config.time_scale,
    )


def nonlinear_mixer(config: "LiquidConfig") -> "TimeMixer":
    """A time cell whose rates depend on its own state: it counts without drift, one event after the other."""
    from ..nn.cells import NonlinearMixer

    return NonlinearMixer(
        config.hidden_size, config.dropout_rate, conv_width=config.conv_width, time_scale=config.time_scale
    )


MIXERS: dict[str, Callable[["LiquidConfig"], "TimeMixer"]] = {
    "time": time_mixer,
    "memory": memory_mixer,
    "nonlinear": nonlinear_mixer,
}
"""The mixer of each kind of block."""

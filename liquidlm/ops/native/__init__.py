"""The operations over time as compiled kernels for processors: one `.cpp` file and one `.py` file for each.

- `lanes.h`: vectors of numbers, and exp, log1p, … of them.
- `passes.h`: passes over rows of numbers.
- `products.h`: products of small matrices.
- `build.py` compiles all `.cpp` files; `library.py` loads the result and calls it.

`liquidlm.ops` chooses: a kernel if `takes` says so, or the form in torch.
"""

from .conv import short_conv_native
from .counts import count_contexts_native, count_text_native
from .gated_norm import gated_layer_norm_native
from .heads import queries_keys_values_native
from .library import TYPES, Kernels, kernels, takes
from .memory import delta_memory_native
from .nonlinear import nonlinear_relax_native
from .norm import add_layer_norm_native, layer_norm_native
from .relax import liquid_relax_native
from .sample import sample_native
from .swiglu import swiglu_native

__all__ = [
    "TYPES",
    "Kernels",
    "add_layer_norm_native",
    "count_contexts_native",
    "count_text_native",
    "delta_memory_native",
    "gated_layer_norm_native",
    "kernels",
    "layer_norm_native",
    "liquid_relax_native",
    "nonlinear_relax_native",
    "queries_keys_values_native",
    "sample_native",
    "short_conv_native",
    "swiglu_native",
    "takes",
]

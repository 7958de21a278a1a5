"""Every size and choice of the model, in one place."""

import math
from pathlib import Path
from typing import get_args, no_type_check

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from ..errors import LiquidError
from ..nn.ode import check_method
from ..runtime.validation import plain_errors, unknown
from .mixers import MIXERS

LETTERS = 512
"""A vocabulary of at most so many tokens, as bytes are, counts as letters; a larger one as words."""
NGRAM_ROWS = 16384
"""Rows of n-grams by default where tokens are letters: they stand for words. Of tokens that are words a few
together are learned by heart (docs/experiments.md)."""
STUB = "modeling_liquidlm"
STUB_TEXT = '''"""Where the code of this model is: in the package liquidlm (pip install liquidlm)."""

from liquidlm import *  # noqa: F403
'''
"""A file of every saved folder: by it the Auto classes find the package where nobody imported it."""


@no_type_check  # strict checks the fields, and lets transformers' own pass
@plain_errors
@strict
class LiquidConfig(PreTrainedConfig):
    r"""Sizes and choices of `LiquidTextGenerationModel`.

    Args:
        vocab_size, embedding_dim, latent_dim, hidden_size: V, E, Z, H: ids ▶ E, flow E ▶ Z, then width H.
        tie_word_embeddings: the output layer is the embedding's table, which takes E = H: a token met in the
            text can be written without ever having been a target.
        num_hidden_layers: blocks.
        mixer_types: per block "time" (liquid time cell alone), "memory" (matrix memory and time cell) or
            "nonlinear" (a time cell whose rates its own state sets too: it can count without drift, one event
            after the other; see NonlinearMixer); by default "memory" in the second of every four blocks,
            "time" in the others.
        intermediate_size: width of the gated MLP; by default 3/2 H with n-grams and 3 H without, rounded up
            to a multiple of 32.
        num_heads: memories per "memory" block; by default H/64 or the nearest smaller divisor of H.
        num_writes: writes to a memory per event; more than 1 tracks more kinds of state and takes longer.
        ngram_rows, ngram_dim, ngram_max: tables of the last 2, 3, … ngram_max tokens together, so many rows
            of so many numbers each (by default 3/32 H rounded up to a multiple of 8); 0 rows for none. By
            default NGRAM_ROWS for bytes and other vocabularies of at most LETTERS tokens, else none.
        conv_width: events that the short convolution sees.
        chunk_size: tokens per chunk of the memory's parallel form.
        loss_chunk: tokens whose logits exist at a time while training.
        flow_hidden_dim, num_flows: couplings of the embedding's flow.
        ode_decay, ode_adaptive, ode_method, ode_steps: its ODE, integrated over t = 0…1 in `ode_steps`
            steps unless a t_span is given.
        time_components: log-normals in the distribution of the gap before the next token (`TimeHead`, with
            a "time" block of its own beside num_hidden_layers), learned where timestamps are given; 0: the
            model says what comes, not when.
        time_resolution: the steps in which times are recorded, in their unit (1 for whole seconds); the time
            head then gives the probability of what is recorded; 0: times are exact.
        flow_loss_weight: weight of the flow's training term in the loss (training mode only).
        time_scale: the gap between events, in the unit of the timestamps, that counts as 1 (their median).
        memory_scale: the gap, in the same unit, that the text's memories forget in as much as over one event;
            for text of which many tokens are at one time. None: they forget by gaps alone, over time_scale.
        dropout_rate: of the context encoders and of both branches of a block.
    """

    model_type = "liquidlm"
    attribute_map = {"num_attention_heads": "num_heads"}  # noqa: RUF012 - transformers' name for it
    keys_to_ignore_at_inference = [  # noqa: RUF012 - transformers' declaration
        *("past_key_values", "log_det", "flow_loss", "time_loss", "features")
    ]

    vocab_size: int = 32000
    embedding_dim: int = 512
    latent_dim: int = 128
    hidden_size: int = 256
    num_hidden_layers: int = 4
    mixer_types: list[str] | None = None
    intermediate_size: int | None = None
    num_heads: int | None = None
    num_writes: int = 1
    ngram_rows: int | None = None
    ngram_dim: int | None = None
    ngram_max: int = 4
    conv_width: int = 4
    chunk_size: int = 64
    loss_chunk: int = 2048
    flow_hidden_dim: int = 128
    num_flows: int = 4
    ode_decay: float | int = 0.1
    ode_adaptive: float | int = 0.01
    ode_method: str = "rk4"
    ode_steps: int = 4
    flow_loss_weight: float | int = 0.1
    time_scale: float | int = 1.0
    memory_scale: float | int | None = None
    time_components: int = 0
    time_resolution: float | int = 0.0
    dropout_rate: float | int = 0.1
    norm_eps: float | int = 1e-6
    use_cache: bool = True
    bos_token_id: int | None = 0
    pad_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs):
        if others := [name for name in kwargs if not _is_known(name)]:
            raise LiquidError(unknown(others[0], "field of LiquidConfig", sorted(self.__annotations__)))
        self._whole_floats()
        check_method(self.ode_method)
        if self.mixer_types is None and self.num_hidden_layers > 0:
            self.mixer_types = ["memory" if i % 4 == 1 else "time" for i in range(self.num_hidden_layers)]
        if self.ngram_rows is None:
            self.ngram_rows = NGRAM_ROWS if self.vocab_size <= LETTERS else 0
        if self.intermediate_size is None:
            self.intermediate_size = math.ceil(self.hidden_size * (1.5 if self.ngram_rows else 3) / 32) * 32
        if self.ngram_dim is None:
            self.ngram_dim = math.ceil(self.hidden_size * 3 / 32 / 8) * 8
        self._check_sizes()
        super().__post_init__(**kwargs)

    @property
    def gap_weight(self) -> float | None:
        """See `Events`."""
        return None if self.memory_scale is None else self.time_scale / self.memory_scale

    @property
    def layer_types(self) -> list[str]:
        """What transformers' caches ask: every block keeps one liquid state, the time head's too."""
        return ["liquid"] * (self.num_hidden_layers + (self.time_components > 0))

    def save_pretrained(self, save_directory, *args, **kwargs):
        """As transformers', and STUB beside it, which `trust_remote_code=True` reads."""
        self.auto_map = {
            "AutoConfig": f"{STUB}.LiquidConfig",
            "AutoModel": f"{STUB}.LiquidModel",
            "AutoModelForCausalLM": f"{STUB}.LiquidTextGenerationModel",
        }
        folder = Path(save_directory)
        if not folder.is_file():  # else transformers says so
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{STUB}.py").write_text(STUB_TEXT, encoding="utf-8")
        super().save_pretrained(save_directory, *args, **kwargs)

    @classmethod
    def from_dict(cls, config_dict, **kwargs):
        """As transformers'. What other versions have written and this one does not know is kept as it is."""
        found = super().from_dict({k: v for k, v in config_dict.items() if _is_known(k)}, **kwargs)
        for name in config_dict:
            if not _is_known(name):
                setattr(found[0] if isinstance(found, tuple) else found, name, config_dict[name])
        return found

    @classmethod
    def register_for_auto_class(cls, auto_class="AutoConfig"):
        """Nothing: else transformers would copy the package's own files into saved folders."""

    def validate_layer_type(self):
        """`layer_types` is derived, not given: nothing to validate."""

    def _whole_floats(self):
        """A whole number is a fine float."""
        for name in FLOATS:
            if isinstance(value := getattr(self, name), int):
                setattr(self, name, float(value) if abs(value) < 2**1023 else math.inf)

    def _check_sizes(self):
        for name in (
            *("vocab_size", "hidden_size", "embedding_dim", "latent_dim", "num_hidden_layers", "conv_width"),
            *("num_writes", "intermediate_size", "chunk_size", "loss_chunk", "flow_hidden_dim", "num_flows"),
            *("ode_steps", "ngram_dim"),
        ):
            if (size := getattr(self, name)) < 1:
                raise LiquidError(f"{name} must be at least 1, not {size}")
        if (self.ngram_rows or 0) < 0 or self.ngram_max < 2:
            raise LiquidError(
                f"ngram_rows must be at least 0 and ngram_max at least 2, not {self.ngram_rows} and"
                f" {self.ngram_max}"
            )
        if self.latent_dim > self.embedding_dim:
            raise LiquidError(
                f"latent_dim ({self.latent_dim}) must be at most embedding_dim ({self.embedding_dim})"
            )
        if self.tie_word_embeddings and self.embedding_dim != self.hidden_size:
            raise LiquidError(
                f"tie_word_embeddings needs an embedding_dim ({self.embedding_dim}) that is the hidden_size"
                f" ({self.hidden_size})"
            )
        if self.time_components < 0:
            raise LiquidError(f"time_components must be at least 0, not {self.time_components}")
        if not 0 < self.time_scale < math.inf:
            raise LiquidError(f"time_scale must be positive and finite, not {self.time_scale}")
        if self.memory_scale is not None and not 0 < self.memory_scale < math.inf:
            raise LiquidError(f"memory_scale must be positive and finite, not {self.memory_scale}")
        if not 0 <= self.time_resolution < math.inf:
            raise LiquidError(f"time_resolution must be at least 0 and finite, not {self.time_resolution}")
        if self.norm_eps <= 0:
            raise LiquidError(f"norm_eps must be over 0, not {self.norm_eps}")
        for name in FLOATS:
            if (value := getattr(self, name)) is not None and not math.isfinite(value):
                raise LiquidError(f"{name} must be finite, not {value}")
        if not 0 <= self.dropout_rate < 1:
            raise LiquidError(f"dropout_rate must be in [0, 1), not {self.dropout_rate}")
        kinds = self.mixer_types or []
        if len(kinds) != self.num_hidden_layers or any(kind not in MIXERS for kind in kinds):
            raise LiquidError(
                f"mixer_types needs {' or '.join(MIXERS)} for each of the {self.num_hidden_layers} blocks,"
                f" not {kinds}"
            )
        if (
            "memory" in kinds
            and (heads := self.num_heads) is not None
            and (heads < 1 or self.hidden_size % heads)
        ):
            raise LiquidError(f"num_heads ({self.num_heads}) must divide hidden_size ({self.hidden_size})")


def _is_known(name):
    """Whether a configuration has something of this name, of ours or of transformers'."""
    return name in LiquidConfig.__dataclass_fields__ or hasattr(LiquidConfig, name) or name in WRITTEN


WRITTEN = (
    *("_name_or_path", "_commit_hash", "_attn_implementation", "attn_implementation", "torch_dtype"),
    *("auto_map", "quantization_config"),
)
"""What transformers gives a configuration beside its fields."""
FLOATS = tuple(name for name, kind in LiquidConfig.__annotations__.items() if float in get_args(kind))
"""Fields that are numbers of any kind."""

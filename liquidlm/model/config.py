"""`LiquidConfig`: every size and choice of the model, explained. Their types and ranges are in `sizes.py`."""

from pathlib import Path
from typing import no_type_check

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from ..errors import LiquidError
from ..runtime.field_checks import plain_fields
from ..runtime.validation import unknown
from .packed import is_int8
from .sizes import Sizes
from .stub import STUB, STUB_TEXT


@no_type_check  # strict checks the fields, and lets transformers' own pass
@plain_fields
@strict
class LiquidConfig(Sizes, PreTrainedConfig):
    """Sizes and choices of `LiquidTextGenerationModel`.

        >>> config = LiquidConfig(vocab_size=256, hidden_size=128, num_hidden_layers=4)
        >>> config.mixer_types
        ['time', 'memory', 'time', 'time']
        >>> config.intermediate_size
        192

    Symbols: V vocabulary, E embedding, Z latent, H hidden.

    Args:
        vocab_size: V, number of token ids; default 32000.
        embedding_dim: E, width of the embedding's table; default 512.
        latent_dim: Z ≤ E, width that the embedding's flow reduces E to; default 128.
        hidden_size: H, width of the blocks; default 256. It sets most of the cost per token.
        num_hidden_layers: number of blocks; default 4. The time head's block comes on top.
        mixer_types: kind of each block, a list of names in `MIXERS`; default "memory" in the second of every
            four blocks and "time" in the others. "time" is the liquid time cell alone. "memory" adds a matrix
            memory, for recall over long texts. "nonlinear" counts without drift, and is slower.
        intermediate_size: width of the gated MLP; default 1.5 H with n-grams and 3 H without, rounded up to a
            multiple of 32.
        num_heads: memories per "memory" block, a divisor of H; default H/64 or the next smaller divisor.
        num_writes: writes to each memory per token; default 1. More track more states, slower.
        ngram_rows: rows of the table for each n-gram length, 0 for no n-grams; default 16384 if V ≤ 512
            (bytes), else 0.
        ngram_dim: numbers per row of these tables; default 3/32 H, rounded up to a multiple of 8.
        ngram_max: longest n-gram, in tokens; default 4. There is one table for each length from 2.
        count_orders: the lengths of the contexts whose next tokens are counted, rising; default None: nothing
            is counted. See `CountMemory`. For bytes [1, 2, 3, 4, 5, 6, 8, 10, 12, 16], for words
            [1, 2, 3, 4, 6] are good choices.
        count_lines: lines of the state's table of counts, a power of 2, 64 bytes each; default 4096.
        count_training_lines: lines of the table for the training text, which is a part of the model; a power
            of 2; default 0: there is none. A text of 10 MB fills 2²¹ lines.
        conv_width: tokens that the short convolution of a block sees; default 4.
        chunk_size: tokens per chunk of the memory's parallel form; default 64. It changes speed, not results.
        loss_chunk: tokens whose logits exist at a time in training; default 2048. Fewer save memory.
        flow_hidden_dim: width of the nets in the flow's couplings; default 128.
        num_flows: mixings and couplings of the flow; default 4.
        ode_decay: decay δ of the embedding's ODE, per unit of its time; default 0.1.
        ode_adaptive: adaptive term κ of this ODE; default 0.01. See `ODEFunc`.
        ode_method: its solver, a name of torchdiffeq; default "rk4".
        ode_steps: steps over its time 0…1, unless a t_span is given; default 4.
        flow_loss_weight: weight of the flow's training term in the loss, in training mode; default 0.1. The
            argument `flow_ids` of the model's forward sets the ids that the term is computed from.
        time_scale: the gap that counts as 1, in the unit of the timestamps; default 1.0. The median gap is a
            good choice.
        memory_scale: the gap, in the same unit, in which the blocks forget as much as over one token; default
            None: they forget by gaps alone. Set it for text in which many tokens have the same time.
        time_components: log-normals in the distribution of the gap before the next token; default 0: the
            model predicts no gaps. More than 0 adds a time head (`TimeHead`), and one "time" block for it.
        time_resolution: the steps in which the times are recorded, in their unit, 1 for whole seconds;
            default 0.0: times are exact. The time head then predicts the probability of the recorded gap.
        dropout_rate: dropout of the context encoders and of both branches of a block, in [0, 1); default 0.1.
        norm_eps: added to the variance in every norm; default 1e-6.
        use_cache: return the state after a forward pass, outside training mode; default True.
        bos_token_id: id of the token that starts a text; default 0.
        pad_token_id: id of the token for padding; default 1.
        eos_token_id: id, or ids, of the token that ends a text; default 2.
        tie_word_embeddings: use the embedding's table as output layer, which needs E = H; default False. A
            token that the model has only read can then be written.

    Raises:
        LiquidError: an unknown field, or a value out of its range.
    """

    model_type = "liquidlm"
    attribute_map = {"num_attention_heads": "num_heads"}  # noqa: RUF012 - transformers' name for it
    keys_to_ignore_at_inference = [  # noqa: RUF012 - transformers' declaration
        *("past_key_values", "log_det", "flow_loss", "time_loss", "features")
    ]

    def __post_init__(self, **kwargs):
        if others := [name for name in kwargs if not _is_known(name)]:
            raise LiquidError(unknown(others[0], "field of LiquidConfig", sorted(Sizes.__annotations__)))
        self.complete()
        super().__post_init__(**kwargs)

    @property
    def gap_weight(self) -> float | None:
        """time_scale / memory_scale, see `Events`; None without a memory_scale."""
        return None if self.memory_scale is None else self.time_scale / self.memory_scale

    @property
    def layer_types(self) -> list[str]:
        """One liquid state per block, the time head's too: transformers' caches read it."""
        return ["liquid"] * (self.num_hidden_layers + (self.time_components > 0))

    def save_pretrained(self, save_directory, *args, **kwargs):
        """As in transformers, and STUB beside the config, which `trust_remote_code=True` reads."""
        self.auto_map = {
            "AutoConfig": f"{STUB}.LiquidConfig",
            "AutoModel": f"{STUB}.LiquidModel",
            "AutoModelForCausalLM": f"{STUB}.LiquidTextGenerationModel",
        }
        folder = Path(save_directory)
        if not folder.is_file():  # else transformers reports it
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{STUB}.py").write_text(STUB_TEXT, encoding="utf-8")
        super().save_pretrained(save_directory, *args, **kwargs)

    @classmethod
    def from_dict(cls, config_dict, **kwargs):
        """As in transformers. Fields that this version does not know are kept as they are.

        That the weights are in int8 on disk is left out: those of the loaded model are not.
        """
        if is_int8(config_dict):
            config_dict = {k: v for k, v in config_dict.items() if k != "quantization_config"}
        found = super().from_dict({k: v for k, v in config_dict.items() if _is_known(k)}, **kwargs)
        for name in config_dict:
            if not _is_known(name):
                setattr(found[0] if isinstance(found, tuple) else found, name, config_dict[name])
        return found

    @classmethod
    def register_for_auto_class(cls, auto_class="AutoConfig"):
        """Does nothing: transformers would copy the package's own files into saved folders."""

    def validate_layer_type(self):
        """Does nothing: `layer_types` is derived from other fields."""


def _is_known(name):
    """Whether a configuration has a field or attribute of this name, here or in transformers."""
    return name in LiquidConfig.__dataclass_fields__ or hasattr(LiquidConfig, name) or name in WRITTEN


WRITTEN = (
    *("_name_or_path", "_commit_hash", "_attn_implementation", "attn_implementation", "torch_dtype"),
    *("auto_map", "quantization_config"),
)
"""Attributes that transformers writes into a configuration beside its fields."""

"""A Llama of transformers, with its weights, run by llama.cpp.

Its Python binding is built from source: `pip install -e '.[llama]'` needs a C++ compiler and minutes.
"""

import ctypes
import json
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import LlamaForCausalLM

TYPES = ("F32", "Q8_0")
BATCH = 1024
"""Tokens of all rows that it reads at a time."""
NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
"""transformers' names of a layer's weights ▶ those of a GGUF file."""
_SILENT = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
"""Takes llama.cpp's log. It must live as long as llama.cpp does."""


def write_gguf(
    model: LlamaForCausalLM, path: Path, kind: str, context: int, tokenizer: Path | None = None
) -> None:
    """Writes the weights as a GGUF file.

    Args:
        kind: the type of the matrices, one of TYPES; vectors are float32.
        context: the longest text.
        tokenizer: a `tokenizer.json` of byte-level BPE with all ids of the model; None writes none.
    """
    from gguf import GGMLQuantizationType, GGUFWriter  # pyright: ignore[reportMissingImports]
    from gguf.quants import quantize  # pyright: ignore[reportMissingImports]

    config: Any = model.config
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(context)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_attention_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    if tokenizer is None:
        writer.add_tokenizer_model("no_vocab")
    else:
        _add_tokenizer(writer, json.loads(tokenizer.read_text(encoding="utf-8")))

    def add(name: str, weight: Tensor) -> None:
        data = weight.detach().float().numpy()
        if data.ndim == 1 or kind == "F32":
            writer.add_tensor(name, data)
        else:
            quantum = GGMLQuantizationType[kind]
            writer.add_tensor(name, quantize(np.ascontiguousarray(data), quantum), raw_dtype=quantum)

    add("token_embd.weight", model.model.embed_tokens.weight)
    add("output_norm.weight", model.model.norm.weight)
    add("output.weight", model.lm_head.weight)
    for number, layer in enumerate(model.model.layers):
        for theirs, name in NAMES.items():
            weight = cast(Tensor, layer.get_submodule(theirs).weight)
            if name in ("attn_q", "attn_k"):
                weight = _interleaved(weight, config.num_attention_heads)
            add(f"blk.{number}.{name}.weight", weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokenizer(writer: Any, file: dict[str, Any]) -> None:
    added = {token["content"] for token in file["added_tokens"]}
    of_id = {index: token for token, index in file["model"]["vocab"].items()}
    of_id |= {token["id"]: token["content"] for token in file["added_tokens"]}
    tokens = [of_id[index] for index in range(len(of_id))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in added else 1 for token in tokens])  # of control, or normal
    merges = file["model"]["merges"]
    writer.add_token_merges([one if isinstance(one, str) else " ".join(one) for one in merges])
    writer.add_bos_token_id(tokens.index("<s>"))
    writer.add_eos_token_id(tokens.index("</s>"))


def _interleaved(weight: Tensor, heads: int) -> Tensor:
    """Rows in the order of llama.cpp's rotary positions: pairs side by side, not halves."""
    return weight.unflatten(0, (heads, 2, -1)).transpose(1, 2).reshape(weight.shape)


class LlamaCpp:
    """Rows of tokens through llama.cpp, with its cache in float16; a context manager.

    Args:
        model: the model to run.
        kind: the type of its matrices, one of TYPES.
        context: the longest text of a row.
        rows: texts at a time.
    """

    def __init__(self, model: LlamaForCausalLM, kind: str, context: int, rows: int = 1):
        import llama_cpp  # pyright: ignore[reportMissingImports]

        self._c: Any = llama_cpp
        self._folder = tempfile.TemporaryDirectory()
        path = Path(self._folder.name) / "llama.gguf"
        write_gguf(model, path, kind, context)
        self._c.llama_log_set(_SILENT, ctypes.c_void_p())
        self._model = self._c.llama_model_load_from_file(
            str(path).encode(), self._c.llama_model_default_params()
        )
        options = self._c.llama_context_default_params()
        options.n_ctx, options.n_seq_max, options.n_batch = context * rows, rows, BATCH
        options.n_threads = options.n_threads_batch = torch.get_num_threads()
        self._context = self._c.llama_init_from_model(self._model, options)
        if not self._context:
            raise RuntimeError("llama.cpp does not take the model")
        self._batch = self._c.llama_batch_init(BATCH, 0, 1)
        self._vocab, self.length = model.config.vocab_size, 0

    def __enter__(self) -> "LlamaCpp":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._c.llama_batch_free(self._batch)
        self._c.llama_free(self._context)
        self._c.llama_model_free(self._model)
        self._folder.cleanup()

    def read(self, ids: Int[Tensor, "b t"]) -> Float[Tensor, "b v"]:
        """Go on with these tokens of each row; the logits after the last."""
        rows, length = ids.shape
        size = max(1, BATCH // rows)
        for first in range(0, length, size):
            part = ids[:, first : first + size].tolist()
            self._decode([(row, i) for i in range(len(part[0])) for row in range(rows)], part)
        last = [self._c.llama_get_logits_ith(self._context, i - rows) for i in range(rows)]
        return torch.stack(
            [torch.from_numpy(np.ctypeslib.as_array(each, (self._vocab,)).copy()) for each in last]
        )

    def _decode(self, places: list[tuple[int, int]], ids: list[list[int]]) -> None:
        """The tokens at these rows and columns, in order; the logits of the last column are kept."""
        batch, columns = self._batch, len(ids[0])
        batch.n_tokens = len(places)
        for n, (row, i) in enumerate(places):
            batch.token[n], batch.pos[n], batch.logits[n] = ids[row][i], self.length + i, i == columns - 1
            batch.n_seq_id[n], batch.seq_id[n][0] = 1, row
        if failed := self._c.llama_decode(self._context, batch):
            raise RuntimeError(f"llama.cpp: llama_decode fails with {failed}")
        self.length += columns


def check(model: LlamaForCausalLM) -> dict[str, float]:
    """The largest difference of the logits from transformers', over the largest logit, for each type."""
    ids, found = torch.randint(0, model.config.vocab_size, (2, 40)), {}
    with torch.no_grad():
        theirs = model(ids).logits[:, -1]
    for kind, bound in zip(TYPES, (3e-3, 0.05), strict=True):
        with LlamaCpp(model, kind, 64, rows=2) as llama:
            llama.read(ids[:, :30])
            mine = llama.read(ids[:, 30:])
        found[kind] = ((mine - theirs).abs().max() / theirs.abs().max()).item()
        assert found[kind] < bound, (kind, found[kind])
    return found

"""Export of one generation step as an ONNX graph with explicit state, for runtimes without Python."""

import copy
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import torch
from jaxtyping import Int, Num
from torch import Tensor, nn

from ..errors import LiquidError, install
from ..model.language_model import LiquidLanguageModel
from ..model.torch_step import TorchStep
from ..nn.events import LONGEST
from ..runtime.folders import check_is_new, write_folder
from ..text.tokenizer import LEDTokenizerWrapper

GRAPH = "step.onnx"
ABOUT = "step.json"
CHECKED_STEPS = 64
"""Steps in which the graph is compared with torch."""
TOLERANCE = 1e-4
"""Largest allowed difference between logits of the graph and of torch, relative to the largest logit. The
rounding of float32 gives 10⁻⁶ to 10⁻⁵."""
ONE_FILE = 1_900_000_000
"""Up to this many bytes of weights the graph is one file; protobuf files end at 2 GB."""


class ExportedStep(nn.Module):
    """One generation step: (ids, gap, state…) becomes (logits, state…), one token per row.

    It computes in float32, or in float64 if the model does. The gap is the time before the token, in the unit
    of the timestamps; 0 at the first token of a document. A document begins with a state of zeros. The graph
    predicts tokens only: a time head and its block are left out.

    Args:
        model: is copied.

    Attributes:
        names: of the parts of the state, such as "0.h".

    Raises:
        LiquidError: the model has a `CountMemory`.
    """

    def __init__(self, model: LiquidLanguageModel):
        super().__init__()
        if model.counts is not None:
            raise LiquidError(
                "a model with counts (count_orders) cannot be exported: ONNX has no hash tables."
                " Export a model that was trained without them"
            )
        model = copy.deepcopy(model).cpu().eval()
        if model.time_head is not None:
            del model.blocks[-1]
            model.time_norm, model.time_head = None, None
        self.step, self.time_scale = TorchStep(model), model.config.time_scale
        self.dtype = self.step.table.dtype
        self.empty = model.initial_states(1, self.dtype, model.device)
        self.names = [f"{i}.{part}" for i, state in enumerate(self.empty) for part in state.moving()]

    def zeros(self, batch: int) -> list[Tensor]:
        """The state before a document, in the order of `names`, for `batch` rows."""
        return [
            part.new_zeros(batch, *part.shape[1:]) for state in self.empty for part in state.moving().values()
        ]

    def forward(self, ids: Int[Tensor, " b"], gap: Num[Tensor, " b"], *state: Tensor) -> tuple[Tensor, ...]:
        """Logits of the next token, then the new state in the order of `names`."""
        gap = (gap.to(self.dtype) / self.time_scale).clamp(0.0, LONGEST)[:, None]
        given = iter(state)
        states = [empty.moved(next(given) for _ in empty.moving()) for empty in self.empty]
        logits, _, after = self.step.advance(ids, gap, states)
        return logits, *(part for state in after for part in state.moving().values())


def export_onnx(model: LiquidLanguageModel, tokenizer: LEDTokenizerWrapper, out: str | Path) -> float:
    """Write the graph of a model, its tokenizer and a description into a folder, and check the graph.

    The graph takes any number of rows. `step.json` has the names and shapes of its inputs and outputs.

    Args:
        model: the model.
        tokenizer: its tokenizer.
        out: a folder that does not exist yet.

    Returns:
        the largest difference between a logit of the graph in onnxruntime and of torch over 64 steps,
        relative to the largest logit.

    Raises:
        LiquidError: the extra `export` is not installed, the folder exists or cannot be written, or the graph
            gives other logits than torch.
    """
    try:
        import onnxruntime  # noqa: F401 - for the check, below
        import onnxscript  # noqa: F401 - torch's exporter needs it
    except ImportError as error:
        raise LiquidError(f"the export needs more packages; {install('export')}") from error
    out = Path(out)
    check_is_new(out)
    module = ExportedStep(model).eval()
    worst = [0.0]

    def fill(folder: Path) -> None:
        tokenizer.save_pretrained(folder)
        write_graph(module, folder / GRAPH)
        (folder / ABOUT).write_text(json.dumps(description(module, tokenizer), indent=1), encoding="utf-8")
        worst[0] = difference(module, folder / GRAPH)
        if not worst[0] < TOLERANCE:
            raise LiquidError(
                f"the graph is wrong and was not kept: its logits differ from torch's by {worst[0]:.1e} of"
                " the largest; report this with the model's config.json"
            )

    write_folder(out, fill)
    return worst[0]


def write_graph(module: ExportedStep, file: Path) -> None:
    """Write the graph, for any number of rows, to a file."""
    state = module.zeros(2)
    batch = torch.export.Dim("batch")
    inputs = (torch.zeros(2, dtype=torch.int64), torch.zeros(2, dtype=module.dtype), *state)
    with _quiet():
        program = torch.onnx.export(
            module,
            inputs,
            dynamo=True,
            input_names=["ids", "gap", *module.names],
            output_names=["logits", *(f"next.{name}" for name in module.names)],
            dynamic_shapes=({0: batch}, {0: batch}, tuple({0: batch} for _ in state)),
            verbose=False,
        )
        program = cast(torch.onnx.ONNXProgram, program)
        values = [value.const_value for value in program.model.graph.initializers.values()]
        size = sum(value.nbytes for value in values if value is not None)
        program.save(str(file), external_data=size > ONE_FILE)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the exporter's warnings about itself and about packages that this export does not use."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def description(module: ExportedStep, tokenizer: LEDTokenizerWrapper) -> dict[str, object]:
    """Names, shapes and types of the graph's inputs and outputs, for `step.json`."""
    shapes = {
        name: ["batch", *part.shape[1:]] for name, part in zip(module.names, module.zeros(1), strict=True)
    }
    return {
        "inputs": {"ids": ["batch"], "gap": ["batch"], **shapes},
        "outputs": {
            "logits": ["batch", module.step.output.shape[1]],
            **{f"next.{name}": shape for name, shape in shapes.items()},
        },
        "types": f"ids and *.past_ids int64, all others {str(module.dtype).removeprefix('torch.')}",
        "gap": "time since the token before, in the unit of the timestamps; 0 at a document's first token",
        "state": "zeros before a document; then the outputs next.*",
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }


@torch.no_grad()
def difference(module: ExportedStep, file: Path) -> float:
    """The largest difference between a logit of the graph and of torch, over the largest logit, in 64 steps.
    Each of the two goes on from its own state."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(0)
    own = module.zeros(3)
    theirs = dict(zip(module.names, (part.numpy() for part in own), strict=True))
    differences, sizes = [], []
    for number in range(CHECKED_STEPS):
        ids = torch.randint(0, len(module.step.table), (3,), generator=generator)
        gap = 3 * torch.rand(3, generator=generator, dtype=module.dtype) * (number > 0)
        logits, *own = module(ids, gap, *own)
        found, *rest = session.run(None, {"ids": ids.numpy(), "gap": gap.numpy(), **theirs})
        theirs = dict(zip(module.names, rest, strict=True))
        differences.append((logits - torch.from_numpy(found)).abs().max())
        sizes.append(logits.abs().max())
    return (torch.stack(differences).max() / torch.stack(sizes).max()).item()  # NaN if a logit is NaN

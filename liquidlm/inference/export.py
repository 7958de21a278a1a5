"""One generation step as an ONNX graph with explicit state, for runtimes without Python or torch."""

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

from ..errors import LiquidError
from ..model.language_model import LiquidTextGenerationModel
from ..model.step import LiquidStep
from ..nn.events import LONGEST
from ..runtime.folders import write_folder
from ..text.tokenizer import LEDTokenizerWrapper

GRAPH = "step.onnx"
ABOUT = "step.json"
CHECKED_STEPS = 64
TOLERANCE = 1e-4
"""Logits of the graph may differ from torch's by so much of the largest; float32 alone makes 10⁻⁶ to 10⁻⁵."""
ONE_FILE = 1_900_000_000
"""Bytes of weights up to which the graph is one file; protobuf ends at 2 GB."""


class ExportedStep(nn.Module):
    """(ids, gap, state…) ▶ (logits, state…): one token per row, in float32 or, if the model is, in float64.

    The gap is that before the token, in the unit of the timestamps; 0 at a document's first. A document
    begins with a state of zeros. The graph says what comes, not when: a time head and its block stay behind.
    """

    def __init__(self, model: LiquidTextGenerationModel):
        super().__init__()
        model = copy.deepcopy(model).cpu().eval()
        if model.time_head is not None:
            del model.blocks[-1]
            model.time_norm, model.time_head = None, None
        self.step = LiquidStep(model)
        self.dtype = self.step.table.dtype
        self.empty = model.initial_states(1, self.dtype, model.device)
        self.names = [f"{i}.{part}" for i, state in enumerate(self.empty) for part in state.moving()]

    def zeros(self, batch: int) -> list[Tensor]:
        """The state before a document, in the order of `names`."""
        return [
            part.new_zeros(batch, *part.shape[1:]) for state in self.empty for part in state.moving().values()
        ]

    def forward(self, ids: Int[Tensor, " b"], gap: Num[Tensor, " b"], *state: Tensor) -> tuple[Tensor, ...]:
        gap = (gap.to(self.dtype) / self.step.time_scale).clamp(0.0, LONGEST)[:, None]
        given = iter(state)
        states = [empty.moved(next(given) for _ in empty.moving()) for empty in self.empty]
        logits, _, after = self.step.advance(ids, gap, states)
        return logits, *(part for state in after for part in state.moving().values())


def export_onnx(model: LiquidTextGenerationModel, tokenizer: LEDTokenizerWrapper, out: str | Path) -> float:
    """Write the step of a model, its tokenizer and a description into the folder `out`, and run it.

    The graph takes any number of rows. `step.json` has the names and shapes of what goes in and comes out.

    Returns:
        the largest difference of a logit from torch's over 64 steps in onnxruntime, as a part of the largest
        logit.

    Raises:
        LiquidError: the extra is not installed, the folder is taken or cannot be written, or the graph does
            not compute what torch does.
    """
    try:
        import onnxruntime  # noqa: F401 - for the check, below
        import onnxscript  # noqa: F401 - torch's exporter needs it
    except ImportError as error:
        raise LiquidError("the export needs the extra: pip install 'liquidlm[export]'") from error
    out = Path(out)
    if out.exists():
        raise LiquidError(f"{out} is there already: choose another --out")
    module = ExportedStep(model).eval()
    worst = [0.0]

    def fill(folder: Path) -> None:
        tokenizer.save_pretrained(folder)
        write_graph(module, folder / GRAPH)
        (folder / ABOUT).write_text(json.dumps(description(module, tokenizer), indent=1), encoding="utf-8")
        worst[0] = difference(module, folder / GRAPH)
        if not worst[0] < TOLERANCE:
            raise LiquidError(
                f"the graph's logits differ from torch's by {worst[0]:.1e} of the largest: it is not kept"
            )

    write_folder(out, fill)
    return worst[0]


def write_graph(module: ExportedStep, file: Path) -> None:
    """The graph alone, for any number of rows."""
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
    """Without the exporter's remarks on itself, and on packages that a text model has no use for."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def description(module: ExportedStep, tokenizer: LEDTokenizerWrapper) -> dict[str, object]:
    """What goes into the graph and comes out of it."""
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
        "state": "zeros before a document; then what next.* has given",
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }


@torch.no_grad()
def difference(module: ExportedStep, file: Path) -> float:
    """The largest difference of a logit between the graph and torch, each going its own way over 64 steps,
    over the largest logit."""
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
    return (torch.stack(differences).max() / torch.stack(sizes).max()).item()  # not a number if one is not

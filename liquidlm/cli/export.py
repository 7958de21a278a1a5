"""`liquidlm export`: one generation step as an ONNX graph."""

from pathlib import Path
from typing import Annotated

import typer

from ..inference.model_folders import check_model
from ..runtime.folders import check_is_new
from .arguments import Folder, named_folder
from .model_imports import import_models

Out = Annotated[
    Path,
    typer.Option("--out", metavar="DIR", parser=named_folder, help="New folder for graph and tokenizer."),
]


def export(folder: Folder, out: Out) -> None:
    """Write one generation step as an ONNX graph.

    The graph runs in onnxruntime, from any language. Its inputs are a token, a gap and the state. Its outputs
    are the logits and the new state. `step.json` describes them. The command compares the graph with PyTorch
    over 64 steps before it keeps the graph.

        liquidlm export stories --out stories-onnx
    """
    model_folder = check_model(folder)
    check_is_new(out)
    import_models()
    from ..inference.export import export_onnx
    from ..inference.saving import load_language_model

    model, tokenizer = load_language_model(model_folder)
    worst = export_onnx(model, tokenizer, out)
    print(
        f"{out / 'step.onnx'}: over 64 steps its logits differ from torch's by at most {worst:.0e} of"
        " the largest"
    )

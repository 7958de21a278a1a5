"""`liquidlm export`: one generation step as an ONNX graph."""

from pathlib import Path
from typing import Annotated

import typer

from .arguments import Folder, named_folder

Out = Annotated[
    Path,
    typer.Option("--out", metavar="DIR", parser=named_folder, help="New folder for graph and tokenizer."),
]


def export(folder: Folder, out: Out) -> None:
    """Write one generation step as an ONNX graph with explicit state.

    For onnxruntime in any language. Token, gap and state go in; logits and state come out; `step.json`
    describes them. The graph is compared with torch over 64 steps before it is kept.

        liquidlm export stories --out stories-onnx
    """
    from ..inference.export import export_onnx
    from ..inference.saving import load_language_model

    model, tokenizer = load_language_model(folder)
    worst = export_onnx(model, tokenizer, out)
    print(
        f"{out / 'step.onnx'}: over 64 steps its logits differ from torch's by at most {worst:.0e} of"
        " the largest"
    )

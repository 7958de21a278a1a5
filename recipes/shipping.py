"""A trained run ▶ the folder of a bundled model: int8 weights, tokenizer, card of figures and samples."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from liquidlm.errors import LiquidError
from liquidlm.inference.checkpoints import checkpoints, newest_undamaged
from liquidlm.inference.evaluate import evaluate
from liquidlm.inference.generate import Sampling, read, write
from liquidlm.inference.saving import load_model, save_int8_model
from liquidlm.model.packed import pack, unpack
from liquidlm.model.pretrained import LiquidTextGenerationModel
from liquidlm.pretrained import BUNDLED
from liquidlm.runtime.folders import write_folder
from liquidlm.text.corpus import Document
from liquidlm.text.tokenization import tokenize_documents
from liquidlm.text.tokenizer import LEDTokenizerWrapper
from liquidlm.training.progress import read_curve
from liquidlm.training.run_folder import CURVE
from liquidlm.training.trainer_state import TrainerState

MOST_BYTES = 16 * 2**20
"""A bundled model is downloaded with the package: its weights may have so many bytes."""


class SpanishNumber(float):
    """A number that is written with a decimal comma."""

    def __format__(self, form: str) -> str:
        return super().__format__(form).translate(str.maketrans(".,", ",."))


@dataclass(frozen=True)
class Recipe:
    """What a bundled model needs beside its run.

    Attributes:
        name: of the model, and of its folder in the package.
        card: its text, with the names of facts and figures in braces.
        prompts: of the samples.
        words: further facts of the card.
        number: makes numbers that are written as in the card's language.
    """

    name: str
    card: Path
    prompts: Sequence[str]
    words: Mapping[str, str]
    number: Callable[[float], float] = float

    def ship(self, run: Path, held_out: Mapping[str, list[Document]], out: Path | None = None) -> None:
        """Write the model of a run in int8, with its card.

        Args:
            run: the folder of the run.
            held_out: texts whose bits per byte the card has, by the name that they have there.
            out: the folder; the default is the model's place in the package.

        Raises:
            LiquidError: the weights are too large, or have counts of the training text.
        """
        model, tokenizer = load_model(run)
        if model.counts is not None and model.counts.training_counts is not None:
            raise LiquidError(
                f"the model in {run} has counts of its training text: train one without count_training_lines"
            )
        model.load_state_dict(unpack(pack(model.state_dict())))  # the figures are those of the int8 weights
        samples = "\n\n".join(_quoted(sample(model, tokenizer, prompt)) for prompt in self.prompts)
        card = self._filled({**_facts(run), **_figures(model, tokenizer, held_out)}, samples)

        def fill(folder: Path) -> None:
            save_int8_model(folder, model, tokenizer)
            size = (folder / "model.safetensors").stat().st_size
            if size > MOST_BYTES:
                raise LiquidError(f"the weights have {size:,} bytes; a bundled model may have {MOST_BYTES:,}")
            (folder / "README.md").write_text(card, encoding="utf-8")

        write_folder(out or BUNDLED / self.name, fill)
        print(card)

    def _filled(self, figures: Mapping[str, float], samples: str) -> str:
        """The card with its figures: as programs read them in the metadata, as people do in the text."""
        _, metadata, text = self.card.read_text(encoding="utf-8").split("---\n", 2)
        read = {name: self.number(value) for name, value in figures.items()}
        return "---\n".join(
            ["", metadata.format(**figures), text.format(**read, **self.words, samples=samples)]
        )


def _facts(run: Path) -> dict[str, float]:
    """Steps, tokens, passes, hours and dropout of a run, from its newest checkpoint and its curve."""
    last = TrainerState.read(newest_undamaged(checkpoints(run))[0])
    tokens = last.step * last.settings.batch_size * last.settings.context
    return {
        "steps": last.step,
        "tokens": tokens,
        "millions": tokens / 1e6,
        "passes": max(entry.get("passes", 0.0) for entry in read_curve(run / CURVE)),
        "hours": last.seconds / 3600,
        "dropout": last.settings.dropout,
    }


def _figures(
    model: LiquidTextGenerationModel,
    tokenizer: LEDTokenizerWrapper,
    held_out: Mapping[str, list[Document]],
) -> dict[str, float]:
    """Number of parameters, bits per byte of held-out texts, and share of tokens that survive the flow."""
    figures = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "survival": model.embedding.round_trip_survival(),
    }
    for name, texts in held_out.items():
        result = evaluate(
            model, tokenize_documents(texts, tokenizer), eos_token_id=tokenizer.eos_token_id, bf16=False
        )
        figures[f"{name}_bits"] = result.bits_per_byte
        figures[f"{name}_bytes"] = result.bytes
    return figures


def sample(model: LiquidTextGenerationModel, tokenizer: LEDTokenizerWrapper, prompt: str) -> str:
    """Text that the model writes after a prompt: seed 1, at most 200 tokens, as on the command line."""
    ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer.encode(prompt).tolist()]])
    state = model.new_state()
    logits, stop = read(model, ids, state), [tokenizer.eos_token_id]
    tokens = [
        int(token) for token in write(model, logits, state, Sampling(seed=1), 200, context=ids, stop=stop)
    ]
    return prompt + tokenizer.decode([token for token in tokens if token not in stop])


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.splitlines())

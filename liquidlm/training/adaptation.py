"""Likelihood of held-out text by a model that goes on learning while it reads (dynamic evaluation)."""

import time
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Int64, Num

from ..errors import LiquidError
from ..inference.defaults import ADAPT_RATE
from ..inference.evaluate import ByStep, Evaluation, Pass, evaluating
from ..model.language_model import LiquidLanguageModel
from ..model.step import LiquidStep
from ..text.token_corpus import TokenCorpus
from .online import BLOCK, OnlineLearner


def evaluate_learning(
    model: LiquidLanguageModel,
    corpus: TokenCorpus,
    *,
    eos_token_id: int,
    rate: float = ADAPT_RATE,
    budget: float = 1.0,
    progress: Callable[[int], object] | None = None,
) -> Evaluation:
    """`evaluate`, and the model learns each block of text after it has been evaluated.

    The figures are those of a model that predicts every token before it learns from it (Krause et al. 2018,
    arXiv:1709.07432). They cannot be compared with figures of fixed weights. The learner reads all documents
    as one text.

    Args:
        model: the language model. It is changed in place.
        corpus, eos_token_id: see `evaluate`.
        rate, budget: of the learner, see `OnlineLearner`.
        progress: called after every block with the number of tokens read.

    Raises:
        LiquidError: several documents with times; a rate or budget out of range; a token id is outside the
            model's vocabulary.

    Example:
        >>> from liquidlm import LiquidTextGenerationModel
        >>> from liquidlm.text.corpus import Document
        >>> from liquidlm.text.tokenization import tokenize_documents
        >>> from liquidlm.text.tokenizer import LEDTokenizerWrapper
        >>> tokenizer = LEDTokenizerWrapper.bytes()
        >>> model = LiquidTextGenerationModel(tokenizer.vocab_size, 16, 8, 16, num_hidden_layers=2)
        >>> text = tokenize_documents([Document("to be, or not to be, " * 300, "a")], tokenizer)
        >>> found = evaluate_learning(model, text, eos_token_id=tokenizer.eos_token_id, rate=0.05)
        >>> found.bits_per_byte < 7.7
        True
    """
    if corpus.times is not None and len(corpus.starts) > 1:
        raise LiquidError("a model can learn on from one document with times, not from several: give one")
    with evaluating(model):
        begin, form = time.perf_counter(), _Learning(model, OnlineLearner(model, rate, budget))
        total = Pass(form, corpus, eos_token_id)
        for first in range(0, corpus.tokens.size, BLOCK):
            total.read(first, BLOCK)
            form.learn()
            if progress is not None:
                progress(min(first + BLOCK, corpus.tokens.size))
        return total.evaluation(time.perf_counter() - begin)


class _Learning(ByStep):
    """Reads by a `LiquidStep`, whose weights a learner changes between two blocks."""

    def __init__(self, model: LiquidLanguageModel, learner: OnlineLearner):
        super().__init__(LiquidStep(model))
        self.learner = learner

    def read(
        self,
        ids: Int64[np.ndarray, " n_plus_1"],
        begins: Bool[np.ndarray, " n_plus_1"],
        counted: Bool[np.ndarray, " n"],
        times: Num[np.ndarray, " n_plus_1"] | None,
    ) -> tuple[float, float]:
        """As `ByStep.read`; the tokens are then known to the learner."""
        found = super().read(ids, begins, counted, times)
        new = slice(1 if self.learner.begun else 0, None)
        self.learner.add(ids[new], None if times is None else times[new].astype(np.float64))
        return found

    def learn(self) -> None:
        """Learn the blocks that are whole."""
        changed = False
        while self.learner.missing <= 0:
            changed |= self.learner.learn()
        if changed:
            self.step = LiquidStep(self.model)

"""A text that is being read and written, and its state on disk."""

import itertools
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import LiquidError
from ..inference.generate import PENALISED
from ..inference.state_files import GENERATE, load, save
from ..inference.timed_text import TimedToken
from ..model.language_model import LiquidTextGenerationModel
from ..nn.state import LiquidCache
from ..text.tokenizer import LEDTokenizerWrapper


@dataclass
class TextSoFar:
    """A text that is being read and written, and the state to keep of it.

    Attributes:
        state: after the tokens before, and the first `read` of `tokens`.
        before: the last tokens before `tokens`, which only the repetition penalty looks at.
    """

    state: LiquidCache
    before: list[int]
    tokens: list[TimedToken] = field(default_factory=list)
    read: int = 0

    def recent(self) -> list[int]:
        """All tokens, or the last of them: as many as the repetition penalty looks at."""
        return [*self.before, *(told.token for told in self.tokens)][-PENALISED:]

    def add(self, written: list[TimedToken], state: LiquidCache) -> None:
        """What was written, all but the last of it read into `state`."""
        self.tokens, self.state = [*self.tokens, *written], state
        self.read = len(self.tokens) - 1

    def cut(self, tokenizer: LEDTokenizerWrapper, before: int) -> None:
        """Keep a prompt up to where it is read, and a token more, or some up to the end of a character; say
        how far that is. The prompt begins after so many tokens `before`."""
        end, said = self.read, ""
        for end in range(self.read + 1, min(self.read + 5, len(self.tokens) + 1)):
            said = tokenizer.decode([told.token for told in self.tokens[before:end]])
            if not said.endswith("\ufffd"):
                break
        say(
            f"stopped: of {len(self.tokens):,} tokens {end:,} are read, the first {len(said):,} characters of"
            " the prompt"
        )
        self.tokens = self.tokens[:end]

    def save(
        self, path: Path, model: LiquidTextGenerationModel, tokenizer: LEDTokenizerWrapper, timed: bool
    ) -> None:
        """For `begin_text`, and say so."""
        if self.state.get_seq_length() == 0:
            say(f"nothing is read yet: no state is in {path}")
            return
        # The last token is still to be read; one that ends a document is not: the text may go on.
        pending = [told for told in self.tokens[self.read :] if told.token != tokenizer.eos_token_id]
        read = [*self.before, *(told.token for told in self.tokens[: self.read])]
        save(
            path,
            self.state,
            GENERATE,
            model,
            tokenizer,
            pending=json.dumps([told.token for told in pending]),
            pending_times=json.dumps([told.time for told in pending if timed]),
            recent=json.dumps(read[-PENALISED:]),
        )
        say(f"state in {path}: go on with --load-state {path}")


def begin_text(
    model: LiquidTextGenerationModel, tokenizer: LEDTokenizerWrapper, load_state: Path | None
) -> tuple[TextSoFar, list[TimedToken]]:
    """What the prompt goes on from, and the tokens that come before it."""
    if load_state is None:
        return TextSoFar(model.new_state(), []), [TimedToken(tokenizer.bos_token_id, None)]
    state, metadata = load(load_state, GENERATE, model, tokenizer)
    try:
        tokens, times, recent = (
            json.loads(metadata.get(name, "[]")) for name in ("pending", "pending_times", "recent")
        )
        pending = [TimedToken(int(token), time) for token, time in itertools.zip_longest(tokens, times)]
        return TextSoFar(state, [int(token) for token in recent]), pending
    except (TypeError, ValueError) as error:
        raise LiquidError(f"{load_state} is not a readable liquid state (damaged)") from error


def say(text: str) -> None:
    """On standard error."""
    print(text, file=sys.stderr, flush=True)

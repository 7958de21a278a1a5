"""A text that is being read and written, and its state on disk."""

import itertools
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import LiquidError
from ..inference.sampling import PENALISED
from ..inference.state_files import load, save
from ..inference.state_places import GENERATE
from ..inference.timed_text import TimedToken
from ..model.language_model import LiquidLanguageModel
from ..nn.state import LiquidCache
from ..text.tokenizer import LEDTokenizerWrapper


@dataclass
class TextSoFar:
    """A text that is being read and written, and its state.

    Attributes:
        state: after `before` and the first `read` of `tokens`.
        before: the last tokens before `tokens`; only the repetition penalty uses them.
        tokens: of the prompt and of what was written since.
    """

    state: LiquidCache
    before: list[int]
    tokens: list[TimedToken] = field(default_factory=list)
    read: int = 0

    def recent(self) -> list[int]:
        """The last tokens: as many as the repetition penalty looks at."""
        return [*self.before, *(timed.token for timed in self.tokens)][-PENALISED:]

    def add(self, written: list[TimedToken], state: LiquidCache) -> None:
        """Add what was written; all of it but the last token is read into `state`."""
        self.tokens, self.state = [*self.tokens, *written], state
        self.read = len(self.tokens) - 1

    def cut(self, tokenizer: LEDTokenizerWrapper, before: int) -> None:
        """Keep a prompt up to where it is read, and one token more, or a few up to the end of a character.

        It prints how far that is. The prompt begins after the first `before` tokens.
        """
        end, kept = self.read, ""
        for end in range(self.read + 1, min(self.read + 5, len(self.tokens) + 1)):
            kept = tokenizer.decode([timed.token for timed in self.tokens[before:end]])
            if not kept.endswith("\ufffd"):
                break
        say(
            f"stopped: {end:,} of {len(self.tokens):,} tokens are read, the first {len(kept):,} characters of"
            " the prompt"
        )
        self.tokens = self.tokens[:end]

    def settle(self, tokenizer: LEDTokenizerWrapper) -> None:
        """Leave only the unread tokens in `tokens`, without an end mark: the text may go on after it."""
        self.before = [*self.before, *(timed.token for timed in self.tokens[: self.read])][-PENALISED:]
        self.tokens = [timed for timed in self.tokens[self.read :] if timed.token != tokenizer.eos_token_id]
        self.read = 0

    def save(
        self, path: Path, model: LiquidLanguageModel, tokenizer: LEDTokenizerWrapper, timed: bool
    ) -> None:
        """Write the state and the unread tokens to a file that `begin_text` reads."""
        if self.state.get_seq_length() == 0:
            say(f"no token is read yet, so no state is saved in {path}")
            return
        self.settle(tokenizer)
        save(
            path,
            self.state,
            GENERATE,
            model,
            tokenizer,
            pending=json.dumps([timed.token for timed in self.tokens]),
            pending_times=json.dumps([each.time for each in self.tokens if timed]),
            recent=json.dumps(self.before),
        )
        say(f"state in {path}: continue with --load-state {path}")


def begin_text(
    model: LiquidLanguageModel, tokenizer: LEDTokenizerWrapper, load_state: Path | None
) -> TextSoFar:
    """An empty text, or the text of a state file, with the tokens that are still to be read.

    Raises:
        LiquidError: the file is not a readable state, or of another command, model or tokenizer.
    """
    if load_state is None:
        return TextSoFar(model.new_state(), [], [TimedToken(tokenizer.bos_token_id, None)])
    state, metadata = load(load_state, GENERATE, model, tokenizer)
    try:
        tokens, times, recent = (
            json.loads(metadata.get(name, "[]")) for name in ("pending", "pending_times", "recent")
        )
        unread = [TimedToken(int(token), time) for token, time in itertools.zip_longest(tokens, times)]
        return TextSoFar(state, [int(token) for token in recent], unread)
    except (TypeError, ValueError) as error:
        raise LiquidError(f"{load_state} is not a readable liquid state (damaged)") from error


def say(text: str) -> None:
    """Print a line on standard error."""
    print(text, file=sys.stderr, flush=True)

"""A conversation as the text that the model reads, by the chat template of its tokenizer."""

import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..errors import LiquidError, first_line
from ..text.chat import LiquidTokenizer
from .schema import Message

FIRST, ANSWER, NEXT = "first words", "given answer", "next words"
"""The turns of a conversation that shows what a template puts around turns."""


MOST_LINES = 200_000
"""Of a conversation: a template may look at every line."""


class Transcript(NamedTuple):
    """What the model reads of a conversation.

    Attributes:
        text: the turns.
        lead: what the model's turn may begin with, and is not part of its message.
    """

    text: str
    lead: str


class ChatFormat:
    """The format of a tokenizer's chat template.

    >>> from liquidlm import LEDTokenizerWrapper
    >>> chat = ChatFormat(LEDTokenizerWrapper.bytes().backend)
    >>> chat.prompt([Message(role="user", content="Hi\\nAssistant: yes")])
    Transcript(text='User: Hi\\n Assistant: yes\\nAssistant:', lead=' ')
    >>> chat.prompt([Message(role="assistant", content="Once")])
    Transcript(text='Assistant: Once', lead='')
    >>> chat.stops, chat.between
    (['\\nUser:'], '\\n')

    Args:
        tokenizer: with the template.

    Attributes:
        stops: the texts that follow a turn of the assistant.
        lead: what stands between the beginning of the assistant's turn and its message.
        between: what stands between a conversation and its next turn.
    """

    def __init__(self, tokenizer: LiquidTokenizer):
        self._tokenizer, self._wrong = tokenizer, ""
        self.stops, self.lead, self.between = [], "", ""
        try:
            self._learn()
        except LiquidError as error:
            self._wrong = str(error)

    def _learn(self) -> None:
        """Find out what the template puts around turns."""
        first, answer, following = (
            {"role": role, "content": text}
            for role, text in (("user", FIRST), ("assistant", ANSWER), ("user", NEXT))
        )
        asked = self._rendered([first], add_generation_prompt=True)
        answered = self._rendered([first, answer])
        further = self._rendered([first, answer, following])
        begun = answered.rpartition(ANSWER)[0]
        self.lead = begun.removeprefix(asked) if begun.startswith(asked) else ""
        end = answered.rpartition(ANSWER)[2]
        after = further.rpartition(ANSWER)[2].partition(NEXT)[0]
        self.stops = [stop for stop in (end.strip() or after.rstrip(),) if stop]
        alone = self._rendered([following])
        if further.startswith(answered) and further.endswith(alone):
            self.between = further.removeprefix(answered).removesuffix(alone)

    def _rendered(self, messages: list[dict[str, Any]], **how: bool) -> str:
        try:
            # A list of conversations may have an empty one.
            (text,) = self._tokenizer.apply_chat_template([messages], tokenize=False, **how)
        except Exception as error:  # a template may raise anything
            raise LiquidError(
                f"the chat template of this model does not take this conversation: {first_line(error)}"
            ) from error
        return str(text).removeprefix(
            str(self._tokenizer.bos_token)
        )  # the server puts it before every prompt

    def prompt(self, messages: Sequence[Message]) -> Transcript:
        """The turns of a conversation, and the beginning of the assistant's next one. A last turn of the
        assistant is continued.

        Raises:
            LiquidError: the template does not take it.
        """
        if messages[-1].role == "assistant" and messages[-1].text:
            mark = uuid.uuid4().hex  # where the turn ends, and the template may add something
            ended = Message(role="assistant", content=messages[-1].text + mark)
            return Transcript(self._of([*messages[:-1], ended]).rpartition(mark)[0], "")
        if messages[-1].role == "assistant":
            messages = messages[:-1]
        return Transcript(self._of(messages, add_generation_prompt=True), self.lead)

    def turns(self, messages: Sequence[Message]) -> str:
        """The turns of a conversation alone, after which another may follow.

        Raises:
            LiquidError: as above.
        """
        return self._of(messages)

    def _of(self, messages: Sequence[Message], **how: bool) -> str:
        if self._wrong:
            raise LiquidError(self._wrong)
        if sum(len(one.text.splitlines()) for one in messages) > MOST_LINES:
            raise LiquidError(
                f"the conversation has over {MOST_LINES:,} lines: send it as a prompt to /v1/completions"
            )
        return self._rendered([{"role": one.role, "content": one.text} for one in messages], **how)

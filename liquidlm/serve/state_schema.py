"""Requests and responses about kept states."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from .named_states import StateFacts
from .schema import Ids, Message, StateName, Str


class StateRequest(BaseModel):
    """A state to keep: that after a prompt or a conversation.

    Attributes:
        name: of the new state.
        model: whose state it is; None is the first model.
        prompt: text or ids to read.
        messages: a conversation to read; a completion goes on with the next turn.
        timestamps: whether the lines of the prompt begin with times, as in a completion.
        state: a kept state to go on from. Without prompt and messages the new state is a copy of it.
        replace: whether a state of the same name may be replaced.
    """

    model_config = ConfigDict(extra="forbid")

    name: StateName
    model: Str | None = None
    prompt: Str | Ids | None = None
    messages: Annotated[list[Message], Field(min_length=1, max_length=4096, fail_fast=True)] | None = None
    timestamps: bool = False
    state: StateName | None = None
    replace: bool = False

    @model_validator(mode="after")
    def _one_text(self) -> "StateRequest":
        if self.prompt is not None and self.messages is not None:
            raise ValueError("prompt and messages are both given: give one of them")
        if self.timestamps and self.messages is not None:
            raise ValueError("timestamps go with prompt, not with messages: remove one of them")
        return self


class StateCard(BaseModel):
    """A kept state."""

    object: Literal["state"] = "state"
    name: str
    tokens: int
    bytes: int
    created: int

    @classmethod
    def of(cls, facts: StateFacts) -> "StateCard":
        """The card of a state."""
        return cls(name=facts.name, tokens=facts.tokens, bytes=facts.nbytes, created=facts.created)


class StateList(BaseModel):
    """The kept states, and how much there may be."""

    object: Literal["list"] = "list"
    data: list[StateCard]
    most_states: int
    most_bytes: int


class StateDeleted(BaseModel):
    """A state that is no longer kept."""

    object: Literal["state.deleted"] = "state.deleted"
    name: str
    deleted: Literal[True] = True

"""Requests and responses about tokens, in the form of vLLM's server."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from .schema import MOST_IDS, Str


class TokenizeRequest(BaseModel):
    """A text to tokenize.

    Attributes:
        model: the model whose tokenizer is used; None: the first model.
        prompt: the text.
        add_special_tokens: whether `<s>` is put before it, as before a prompt.
        return_token_strs: whether the tokens are sent as text too.
    """

    model_config = ConfigDict(extra="forbid")

    model: Str | None = None
    prompt: Str
    add_special_tokens: bool = True
    return_token_strs: bool = False


class TokenizeResponse(BaseModel):
    """The tokens of a text.

    Attributes:
        count: number of tokens.
        max_model_len: the most tokens of a prompt and its completion.
        tokens: their ids.
        token_strs: the tokens as text, if asked for.
    """

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None = None


class DetokenizeRequest(BaseModel):
    """Tokens to make a text of; `model` as in `TokenizeRequest`."""

    model_config = ConfigDict(extra="forbid")

    model: Str | None = None
    tokens: Annotated[list[Annotated[int, Field(ge=0, le=MOST_IDS)]], Field(fail_fast=True)]


class DetokenizeResponse(BaseModel):
    """The text of tokens, without special ones."""

    prompt: str

"""What the API takes and gives: OpenAI's, as far as a language model of text can serve it."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from ..inference.generate import Sampling
from ..text.utf8 import encoded

MOST_IDS = 2**31 - 1
MOST_EXACT = 2**53 - 1
"""The largest integer that every reader of JSON has exactly."""


def _utf8(text: str) -> str:
    encoded(text, "the text")
    return text


Str = Annotated[str, AfterValidator(_utf8)]
# Failing fast: a list of a million wrong elements is one mistake, not a million.
Ids = Annotated[list[Annotated[int, Field(ge=0, le=MOST_IDS)]], Field(min_length=1, fail_fast=True)]
Prompts = Annotated[list[Str | Ids], Field(min_length=1, max_length=64, fail_fast=True)]
Stop = Annotated[Str, Field(min_length=1, max_length=256)]


UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "logit_bias": (),
    "tools": (),
    "tool_choice": ("none", "auto"),
    "functions": (),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "audio": (),
    "best_of": (1,),
    "suffix": ("",),
}
"""What OpenAI's clients may ask for and is not done here, and what of it asks for nothing."""
"""Lower temperatures are 0: the likeliest token, before logits over them overflow."""


class Asked(BaseModel):
    """What both kinds of requests have.

    Beyond OpenAI's: top_k, repetition_penalty.
    """

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    model: Str
    temperature: Annotated[float, Field(ge=0, le=10)] | None = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] | None = 1.0
    top_k: Annotated[int, Field(ge=0, le=MOST_IDS)] | None = 0
    repetition_penalty: Annotated[float, Field(ge=0.01, le=10)] | None = 1.0
    frequency_penalty: Literal[0] | None = None
    presence_penalty: Literal[0] | None = None
    n: Annotated[int, Field(ge=1, le=16)] | None = 1
    stop: Stop | Annotated[list[Stop], Field(max_length=16)] | None = None
    seed: Annotated[int, Field(ge=-MOST_EXACT, le=MOST_EXACT)] | None = None
    stream: bool | None = False
    stream_options: "StreamOptions | None" = None
    user: Str | None = None

    @model_validator(mode="before")
    @classmethod
    def _no_more_than_is_there(cls, given: Any) -> Any:
        for name, harmless in UNSUPPORTED.items() if isinstance(given, dict) else ():
            if given.get(name) not in (None, [], {}, *harmless):
                raise ValueError(f"{name} is not supported here: leave it out")
        return given

    @property
    def choices(self) -> int:
        return 1 if self.n is None else self.n

    @property
    def sampling(self) -> Sampling:
        """Where nothing is said, OpenAI's defaults."""
        temperature, top_p = self.temperature, self.top_p
        return Sampling(
            1.0 if temperature is None else temperature,
            self.top_k or 0,
            1.0 if top_p is None else top_p,
            1.0 if self.repetition_penalty is None else self.repetition_penalty,
            self.seed,
        )

    @property
    def stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else self.stop or []


class StreamOptions(BaseModel):
    include_usage: bool | None = False


class CompletionRequest(Asked):
    """A text to go on with.

    Beyond OpenAI's, of a model trained with times: `timestamps` writes every line with its time, the prompt's
    lines may begin with theirs, and `after` lets so many seconds of silence follow the prompt.
    """

    prompt: Str | Ids | Prompts | None = ""
    max_tokens: Annotated[int, Field(ge=1, le=MOST_IDS)] | None = 16
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: bool | None = False
    timestamps: bool | None = False
    after: Annotated[float, Field(ge=0, le=1e15)] | None = None


class Part(BaseModel):
    type: Literal["text"]
    text: Str


class Message(BaseModel):
    role: Literal["system", "developer", "user", "assistant"]
    content: Str | Annotated[list[Part], Field(max_length=4096, fail_fast=True)]

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class ChatRequest(Asked):
    """A conversation to go on with."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=4096, fail_fast=True)]
    max_tokens: Annotated[int, Field(ge=1, le=MOST_IDS)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=MOST_IDS)] | None = None
    logprobs: bool | None = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None


class TextRequest(BaseModel):
    """A text to look at."""

    text: Annotated[Str, Field(min_length=1, max_length=20_000)]


class PromptTokensDetails(BaseModel):
    cached_tokens: int


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


class CompletionLogprobs(BaseModel):
    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class CompletionChoice(BaseModel):
    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: Literal["stop", "length"] | None


class Completion(BaseModel):
    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | None = None


class ChatMessage(BaseModel):
    role: Literal["assistant"] = "assistant"
    content: str


class ChatChoice(BaseModel):
    index: int
    message: ChatMessage
    logprobs: dict[str, Any] | None
    finish_reason: Literal["stop", "length"] | None


class ChatCompletion(BaseModel):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class ModelCard(BaseModel):
    """A model; beyond OpenAI's what is worth knowing of a liquid one.

    Attributes:
        state_bytes: size of the state of one text, however long it is.
        time_scale: the typical gap between tokens, in the unit of the times.
        says_when: whether it foretells when, as well as what.
    """

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "liquidlm"
    parameters: int
    vocab_size: int
    layers: int
    state_bytes: int
    time_scale: float
    says_when: bool


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelCard]


class Health(BaseModel):
    """How much is going on.

    Attributes:
        running, waiting: texts.
        cached_prefixes, cached_bytes: states kept of prompts that were read.
    """

    status: Literal["ok"] = "ok"
    running: int
    waiting: int
    cached_prefixes: int
    cached_bytes: int


class TimeConstants(BaseModel):
    """Of each token of a text: with what time constants the layers' states relax after it, in units of the
    times; quartiles over a layer's units."""

    tokens: list[str]
    layers: list[str]
    time_constants: list[list[list[float]]] = Field(description="layer × token × (25 %, 50 %, 75 %)")


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorResponse(BaseModel):
    error: ErrorDetail

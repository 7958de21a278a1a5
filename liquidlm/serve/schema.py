"""Requests and responses of the API: the part of OpenAI's that a language model of text can serve."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from ..inference.sampling import Sampling
from ..text.utf8 import encoded

MOST_IDS = 2**31 - 1
MOST_EXACT = 2**53 - 1
"""The largest integer that every JSON reader represents exactly."""


def _utf8(text: str) -> str:
    encoded(text, "the text")
    return text


Str = Annotated[str, AfterValidator(_utf8)]
# fail_fast: a list with a million wrong elements gives one error, not a million.
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
"""Options of OpenAI's API that this server does not support, each with the values that have no effect."""


class Asked(BaseModel):
    """Options of completions and of chat. `top_k` and `repetition_penalty` are additions to OpenAI's API."""

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
    def _refuse_unsupported(cls, given: Any) -> Any:
        for name, harmless in UNSUPPORTED.items() if isinstance(given, dict) else ():
            if given.get(name) not in (None, [], {}, *harmless):
                raise ValueError(f"{name} is not supported here: remove it")
        return given

    @property
    def choices(self) -> int:
        """Completions per prompt."""
        return 1 if self.n is None else self.n

    @property
    def sampling(self) -> Sampling:
        """How tokens are drawn; OpenAI's defaults where the request gives no value."""
        temperature, top_p = self.temperature, self.top_p
        return Sampling(
            1.0 if temperature is None else temperature,
            self.top_k or 0,
            1.0 if top_p is None else top_p,
            1.0 if self.repetition_penalty is None else self.repetition_penalty,
            None if self.seed == -1 else self.seed,  # as in other servers
        )

    @property
    def stops(self) -> list[str]:
        """The stop strings."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []


class StreamOptions(BaseModel):
    """Options of a streamed response."""

    include_usage: bool | None = False


class CompletionRequest(Asked):
    """A prompt to continue.

    Additions to OpenAI's API for a model trained with times: `timestamps` writes a time before every line,
    and the lines of the prompt may begin with times; `after` is the number of seconds between the prompt and
    the completion.
    """

    prompt: Str | Ids | Prompts | None = ""
    max_tokens: Annotated[int, Field(ge=1, le=MOST_IDS)] | None = 16
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: bool | None = False
    timestamps: bool | None = False
    after: Annotated[float, Field(ge=0, le=1e15)] | None = None


class Part(BaseModel):
    """A part of a message: text."""

    type: Literal["text"]
    text: Str


class Message(BaseModel):
    """A message of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Str | Annotated[list[Part], Field(max_length=4096, fail_fast=True)]

    @property
    def text(self) -> str:
        """The message's text; parts are joined."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class ChatRequest(Asked):
    """A conversation to continue."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=4096, fail_fast=True)]
    max_tokens: Annotated[int, Field(ge=1, le=MOST_IDS)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=MOST_IDS)] | None = None
    logprobs: bool | None = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None


class TextRequest(BaseModel):
    """A text to compute time constants for."""

    text: Annotated[Str, Field(min_length=1, max_length=20_000)]


class PromptTokensDetails(BaseModel):
    """How many tokens of the prompt came from the prefix cache."""

    cached_tokens: int


class Usage(BaseModel):
    """Numbers of tokens read and written."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


class CompletionLogprobs(BaseModel):
    """Log-probabilities of a completion's tokens, and their offsets in characters."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class CompletionChoice(BaseModel):
    """One completion."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: Literal["stop", "length"] | None


class Completion(BaseModel):
    """The response to a completion request."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | None = None


class ChatMessage(BaseModel):
    """The message that the model wrote."""

    role: Literal["assistant"] = "assistant"
    content: str


class ChatChoice(BaseModel):
    """One continuation of a conversation."""

    index: int
    message: ChatMessage
    logprobs: dict[str, Any] | None
    finish_reason: Literal["stop", "length"] | None


class ChatCompletion(BaseModel):
    """The response to a chat request."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class ModelCard(BaseModel):
    """The model. The figures of a liquid model are additions to OpenAI's API.

    Attributes:
        parameters: number of parameters.
        vocab_size: number of tokens in the vocabulary.
        layers: number of layers.
        state_bytes: size of the state of one text, independent of its length.
        time_scale: the typical gap between tokens, in the unit of the times.
        says_when: whether the model has a time head, which predicts the time of the next token.
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
    """The models of the server."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class Health(BaseModel):
    """How busy the server is.

    Attributes:
        running: completions that are being written, and prompts that are being read.
        waiting: completions that wait.
        cached_prefixes: states in the prefix cache.
        cached_bytes: their memory.
    """

    status: Literal["ok"] = "ok"
    running: int
    waiting: int
    cached_prefixes: int
    cached_bytes: int


class TimeConstants(BaseModel):
    """Time constants of the layers' states after each token of a text, in the unit of the times: quartiles
    over the units of a layer."""

    tokens: list[str]
    layers: list[str]
    time_constants: list[list[list[float]]] = Field(description="layer × token × (25 %, 50 %, 75 %)")


class ErrorDetail(BaseModel):
    """What is wrong with a request."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorResponse(BaseModel):
    """The body of every error response, in OpenAI's form."""

    error: ErrorDetail

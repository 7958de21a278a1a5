"""Requests and responses of the API: the part of OpenAI's that a language model of text can serve."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from ..inference.sampling import Sampling
from ..text.utf8 import encoded

MOST_IDS = 2**31 - 1
MOST_EXACT = 2**53 - 1
"""The largest integer that every JSON reader represents exactly."""

MOST_BIASES = 1024


def _utf8(text: str) -> str:
    encoded(text, "the text")
    return text


def _only_text(kind: Any) -> Any:
    if isinstance(kind, str) and kind != "text":
        raise ValueError(f"this model reads text, not parts of type {kind[:40]!r}: remove them")
    return kind


Str = Annotated[str, AfterValidator(_utf8)]
# fail_fast: a list with a million wrong elements gives one error, not a million.
Ids = Annotated[list[Annotated[int, Field(ge=0, le=MOST_IDS)]], Field(min_length=1, fail_fast=True)]
Prompts = Annotated[list[Str | Ids], Field(min_length=1, max_length=64, fail_fast=True)]
StateName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,99}$")]
Stop = Annotated[Str, Field(max_length=256)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
TokenId = Annotated[str, Field(pattern="^[0-9]{1,9}$")]
Bias = Annotated[float, Field(ge=-100, le=100)]
Biases = Annotated[
    dict[TokenId, Bias], Field(max_length=MOST_BIASES, json_schema_extra={"additionalProperties": False})
]

UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "tools": (),
    "tool_choice": ("none", "auto"),
    "functions": (),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "audio": (),
    "best_of": (1,),
    "suffix": ("",),
    "prompt_logprobs": (0,),
    "use_beam_search": (False,),
    "images": (),
    **dict.fromkeys(
        ("grammar", "json_schema", "structured_outputs", "guided_json", "guided_regex", "guided_choice"),
        ("",),
    ),
    **dict.fromkeys(("guided_grammar", "format", "template", "system", "bad_words", "lora"), ("",)),
}
"""Options of other servers that change what is written and that this server does not support, each with the
values that have no effect."""


class Asked(BaseModel):
    """Options of completions and of chat.

    `state` is the name of a kept state: the prompt, or the conversation, goes on from there.
    `top_k`, `min_p`, `repetition_penalty` and `ignore_eos` are additions to OpenAI's API. Fields that are not
    known here are named in a header of the response.
    """

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    model: Str
    temperature: Annotated[float, Field(ge=0, le=10)] | None = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] | None = 1.0
    top_k: Annotated[int, Field(ge=-1, le=MOST_IDS)] | None = 0
    min_p: Annotated[float, Field(ge=0, le=1)] | None = 0.0
    repetition_penalty: Annotated[float, Field(ge=0.01, le=10)] | None = None
    repeat_penalty: Annotated[float, Field(ge=0.01, le=10)] | None = None
    frequency_penalty: Penalty | None = 0.0
    presence_penalty: Penalty | None = 0.0
    logit_bias: Biases | None = None
    ignore_eos: bool | None = False
    n: Annotated[int, Field(ge=1, le=16)] | None = 1
    state: StateName | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=16)] | None = None
    seed: Annotated[int, Field(ge=-MOST_EXACT, le=MOST_EXACT)] | None = None
    stream: bool | None = False
    stream_options: "StreamOptions | None" = None
    user: Str | None = None

    @model_validator(mode="after")
    def _refuse_unsupported(self) -> "Asked":
        given = self.model_extra or {}
        for name, harmless in UNSUPPORTED.items():
            if given.get(name) not in (None, [], {}, *harmless):
                raise ValueError(f"{name} is not supported here: remove it")
        return self

    @property
    def ignored(self) -> list[str]:
        """Names of given fields that this server does not know."""
        extra = self.model_extra or {}
        names = [name for name, value in extra.items() if value is not None and name not in UNSUPPORTED]
        both = None not in (self.repetition_penalty, self.repeat_penalty)
        return [*names, "repeat_penalty"] if both else names

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
            max(0, self.top_k or 0),  # −1 is none in other servers
            1.0 if top_p is None else top_p,
            self.repetition_penalty or self.repeat_penalty or 1.0,
            None if self.seed == -1 else self.seed,  # as in other servers
            min_p=self.min_p or 0.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            presence_penalty=self.presence_penalty or 0.0,
            logit_bias=tuple((int(token), bias) for token, bias in (self.logit_bias or {}).items()),
        )

    @property
    def stops(self) -> list[str]:
        """The stop strings, without empty ones."""
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return [one for one in given if one]


class StreamOptions(BaseModel):
    """Options of a streamed response. `continuous_usage_stats` sends the usage so far with every part."""

    include_usage: bool | None = False
    continuous_usage_stats: bool | None = False


class CompletionRequest(Asked):
    """A prompt to continue.

    Additions to OpenAI's API for a model trained with times: `timestamps` writes a time before every line,
    and the lines of the prompt may begin with times; `after` is the number of seconds between the prompt and
    the completion. `echo` with `logprobs` gives the probabilities of the prompt's tokens too; `max_tokens` 0
    gives them alone.
    """

    prompt: Str | Ids | Prompts | None = ""
    max_tokens: Annotated[int, Field(ge=0, le=MOST_IDS)] | None = 16
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: bool | None = False
    timestamps: bool | None = False
    after: Annotated[float, Field(ge=0, le=1e15)] | None = None

    @property
    def scored(self) -> bool:
        """Whether the probabilities of the prompt's tokens are asked for."""
        return bool(self.echo) and self.logprobs is not None


class Part(BaseModel):
    """A part of a message: text."""

    type: Annotated[Literal["text"], BeforeValidator(_only_text)]
    text: Str


class Message(BaseModel):
    """A message of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Str | Annotated[list[Part], Field(max_length=4096, fail_fast=True)] | None = None

    @property
    def text(self) -> str:
        """The message's text; parts are joined."""
        given = self.content or ""
        return given if isinstance(given, str) else "".join(part.text for part in given)


class ChatRequest(Asked):
    """A conversation to continue."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=4096, fail_fast=True)]
    max_tokens: Annotated[int, Field(ge=1, le=MOST_IDS)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=MOST_IDS)] | None = None
    logprobs: bool | None = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None


class TextRequest(BaseModel):
    """A text to compute time constants for, by a model; None is the first one."""

    model: Str | None = None
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
    """Log-probabilities of a completion's tokens, and their offsets in characters. A token with nothing
    before it has none."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
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
        max_prompt_tokens, max_tokens: the most tokens of a prompt and of a written text.
        max_model_len: both together, as in vLLM.
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
    max_prompt_tokens: int
    max_tokens: int
    max_model_len: int


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
    over the units of a layer. `offsets` are the characters of the text where the tokens begin."""

    tokens: list[str]
    offsets: list[int]
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

"""The server's API through a client: completions, chat, streams, mistakes."""

import re
import time
from concurrent.futures import ThreadPoolExecutor

import openai
import psutil
import pytest
import schemathesis
import torch
from api_requests import ASKED, ENDLESS, raw
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance
from serving import NAME, ask, idle, load, served, tiny

from liquidlm.serve.checks import own_hosts


@pytest.fixture(scope="module")
def port():
    with served(tiny(time_components=3), body_bytes=1 << 20, prompt_tokens=4000, waiting=300) as port:
        yield port


@pytest.fixture
def client(port):
    with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="any", max_retries=0) as client:
        yield client


# ---- OpenAI's client


def test_completions(client) -> None:
    found = client.completions.create(**ASKED)
    (choice,) = found.choices
    assert found.object == "text_completion" and found.model == NAME and found.id.startswith("cmpl-")
    assert choice.index == 0 and choice.finish_reason == "length" and choice.logprobs is None
    usage = found.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (5, 20, 25)
    assert client.completions.create(**ASKED).choices[0].text == choice.text
    assert client.completions.create(**(ASKED | {"seed": 2})).choices[0].text != choice.text


@pytest.mark.parametrize("stop", [None, "e", ["qq", "o", "t"]])
def test_a_stream_is_the_same_text(client, stop) -> None:
    asked = ASKED | {"stop": stop, "max_tokens": 60, "logprobs": 2, "temperature": 0.7}
    whole = client.completions.create(**asked)
    options = {"include_usage": True, "continuous_usage_stats": stop is None}
    events = list(client.completions.create(**asked, stream=True, stream_options=options))
    *parts, last = events
    if stop is None:
        counts = [part.usage.completion_tokens for part in parts]
        assert counts == sorted(counts) and counts[0] > 0 and counts[-1] == last.usage.completion_tokens
    else:
        assert all(part.usage is None for part in parts)
    assert "".join(part.choices[0].text for part in parts) == whole.choices[0].text
    assert {part.id for part in events} == {last.id}
    assert [part.choices[0].finish_reason for part in parts][-1] == whole.choices[0].finish_reason
    assert last.choices == [] and last.usage.completion_tokens == whole.usage.completion_tokens
    tokens = [token for part in parts for token in part.choices[0].logprobs.tokens]
    assert tokens == whole.choices[0].logprobs.tokens and "</s>" not in tokens
    assert 0 < len(tokens) <= whole.usage.completion_tokens
    for one in [stop] if isinstance(stop, str) else stop or []:
        assert one not in whole.choices[0].text


def test_several_prompts_and_choices(client) -> None:
    found = client.completions.create(
        **(ASKED | {"prompt": ["ab", "cd", [97 + 4, 98 + 4]], "n": 2, "echo": True})
    )
    texts = [choice.text for choice in found.choices]
    assert [choice.index for choice in found.choices] == list(range(6))
    assert [text[:2] for text in texts] == ["ab", "ab", "cd", "cd", "ab", "ab"]
    assert texts[0] != texts[1] and texts[4:] == texts[:2] and texts[2:4] != texts[:2]
    assert found.usage.prompt_tokens == 9 and found.usage.completion_tokens == 120
    streamed = {}
    for part in client.completions.create(
        **(ASKED | {"prompt": ["ab", "cd"], "n": 2, "echo": True}), stream=True
    ):
        for choice in part.choices:
            streamed[choice.index] = streamed.get(choice.index, "") + choice.text
    assert [streamed[i] for i in range(4)] == texts[:4]


def test_seeds(client) -> None:
    def texts(**how) -> list[str]:
        return [one.text for one in client.completions.create(**(ASKED | how)).choices]

    several = [texts(seed=seed, n=3) for seed in (1, 2)]
    assert len({*several[0], *several[1]}) == 6 and several[0] == texts(seed=1, n=3)
    assert [several[0][0]] == texts(seed=1) != texts(seed=1 + 2**32)
    assert texts(seed=-1) != texts(seed=-1)  # as in other servers: a new one each time


def test_logprobs(client) -> None:
    found = client.completions.create(**ASKED, logprobs=3).choices[0]
    assert len(found.logprobs.token_logprobs) == len(found.logprobs.tokens) == 20
    assert all(-20 < value < 0 for value in found.logprobs.token_logprobs)
    for likeliest, value in zip(found.logprobs.top_logprobs, found.logprobs.token_logprobs, strict=True):
        assert max(likeliest.values()) >= value - 1e-6
    assert found.logprobs.text_offset[0] == 0 and found.logprobs.text_offset[-1] < len(found.text)


def test_chat(client) -> None:
    asked = {
        "model": NAME,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Hello"}]},
        ],
        "max_completion_tokens": 12,
        "seed": 3,
        "logprobs": True,
        "top_logprobs": 2,
    }
    found = client.chat.completions.create(**asked)
    choice = found.choices[0]
    assert found.object == "chat.completion" and choice.message.role == "assistant"
    # The transcript that the model is given, as a completion: the same text but for its first space.
    prompt = "Be brief.\nUser: Hello\nAssistant:"
    plain = client.completions.create(model=NAME, prompt=prompt, max_tokens=12, seed=3, stop="\nUser:")
    assert choice.message.content == plain.choices[0].text.removeprefix(" ")
    assert found.usage.prompt_tokens == len(prompt) + 1
    for one in choice.logprobs.content:
        assert len(one.top_logprobs) == 2 and bytes(one.bytes).decode(errors="replace") == one.token
    deltas = [part.choices[0].delta for part in client.chat.completions.create(**asked, stream=True)]
    assert deltas[0].role == "assistant"
    assert "".join(delta.content or "" for delta in deltas) == choice.message.content


def test_a_prompt_read_before_is_not_read_again(client) -> None:
    prompt = "a long story " * 200
    cold = client.completions.create(**(ASKED | {"prompt": prompt}), logprobs=2)
    warm = client.completions.create(**(ASKED | {"prompt": prompt}), logprobs=2)
    more = client.completions.create(**(ASKED | {"prompt": prompt + "and more"}))
    cached = [found.usage.prompt_tokens_details.cached_tokens for found in (cold, warm, more)]
    assert cached[:2] == [0, 2601] and cached[2] in (2601, 2560)  # with the kernel, without
    assert warm.choices == cold.choices  # probabilities too, to the last bit


def test_lines_with_times(client) -> None:
    asked = ASKED | {"prompt": "[00:00:10] one\n[00:00:20] two", "max_tokens": 200, "echo": True}
    found = client.completions.create(**asked, extra_body={"timestamps": True, "after": 240})
    lines = found.choices[0].text.split("\n")
    assert lines[0].endswith("one") and lines[1].endswith("two")
    stamps = [re.match(r"\[(\d+):(\d\d):(\d\d(?:\.\d+)?)\] ", line) for line in lines if line]
    seconds = [60 * (60 * int(at[1]) + int(at[2])) + float(at[3]) for at in stamps if at]
    assert seconds[:2] == [10, 20] and len(seconds) > 2 and seconds[2] >= 260 and seconds == sorted(seconds)
    with pytest.raises(openai.BadRequestError, match="after needs timestamps"):
        client.completions.create(**ASKED, extra_body={"after": 3})
    no_time = {"prompt": "1" + "0" * 308 + " is a number", "timestamps": True}
    assert client.completions.create(**ASKED | {"prompt": ""}, extra_body=no_time).choices[0].text
    with served() as untimed:
        status, answer = ask(untimed, "/v1/completions", ASKED | {"timestamps": True})
        assert status == 400 and "trained without times" in answer["error"]["message"]


def test_models(client, port) -> None:
    (card,) = client.models.list().data
    assert card.id == NAME and card.says_when and client.models.retrieve(NAME).id == NAME
    with pytest.raises(openai.NotFoundError, match="no model 'other'"):
        client.models.retrieve("other")
    with pytest.raises(openai.NotFoundError, match="no model"):
        client.completions.create(**(ASKED | {"model": "other"}))
    model = tiny(time_components=3)
    state = model.new_state()
    with torch.no_grad():
        model(torch.tensor([[1]]), past_key_values=state, use_cache=True)
    assert card.state_bytes == state.nbytes
    assert ask(port, "/")[0] == 200


def test_time_constants(port) -> None:
    status, found = ask(port, "/liquid/time_constants", {"text": "añ"})
    assert (
        status == 200 and found["layers"] == ["block 0", "block 1", "block 2"] and len(found["tokens"]) == 3
    )
    assert found["offsets"] == [0, 1, 1]  # two bytes of one character
    assert [len(layer) for layer in found["time_constants"]] == [3, 3, 3]
    for low, middle, high in found["time_constants"][1]:
        assert 0 < low < middle < high


def test_nothing_said_is_openai_s_default(client) -> None:
    nothing = dict.fromkeys(("temperature", "top_p", "n", "stop", "stream", "echo", "logprobs", "logit_bias"))
    found = client.completions.create(**ASKED, **nothing)
    assert found.choices == client.completions.create(**ASKED).choices
    assert client.completions.create(**(ASKED | {"temperature": 1e-320})).choices[0].finish_reason == "length"


# ---- what is refused


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 10**6}, "at most 65,536"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"n": 17}, "n: "),
        ({"stop": ["x"] * 17}, "stop"),
        ({"logprobs": 21}, "logprobs"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [261]}, "there is no token 261"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": "x" * 4000}, "over 4,000 tokens: send at most 4,000"),
        ({"prompt": "\ud800"}, "half of a surrogate pair"),
        ({"seed": 2**64}, "seed"),
        ({"frequency_penalty": 3}, "frequency_penalty: Input should be less than or equal to 2"),
        ({"min_p": 2}, "min_p"),
        ({"grammar": "root ::= x"}, "grammar is not supported"),
        ({"prompt": 5}, "prompt: Input should be a valid string or Input should be a valid array"),
        ({"prompt": ["a", {"b": 1}]}, "prompt[1]: "),
        ({"model": 5}, "model: "),
        ({"model": None}, "model"),
        ({"prompt": ["x"] * 64, "n": 16}, "asks for 1024 completions: ask for at most 332"),
        ({"logit_bias": {"500": 1}}, "there is no token 500: the largest id is 260"),
        ({"logit_bias": {"word": 1}}, "logit_bias.word: String should match pattern"),
        ({"logit_bias": {"5": 101}}, "logit_bias"),
        ({"suffix": "end"}, "suffix is not supported"),
        ({"best_of": 3}, "best_of is not supported"),
        ({"prompt": [-1] * 100_000}, "prompt"),
    ],
)
def test_requests_that_make_no_sense(port, change, says) -> None:
    status, answer = ask(port, "/v1/completions", ASKED | change)
    assert status == 400 and says in answer["error"]["message"], answer
    assert answer["error"]["type"] == "invalid_request_error"


DEEP = b"[" * 200_000 + b"]" * 200_000


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"null", 400),
        (b'"text"', 400),
        (b"\xff\xfe\x00", 400),
        (b'{"model": "tiny", "prompt": "\\ud800"}', 400),
        (b'{"model": "\\udfff", "prompt": ""}', 400),
        (b'{"model": "tiny", "seed": ' + b"9" * 5000 + b"}", 400),
        (b'{"model": "tiny", "temperature": Infinity}', 400),
        (b'{"model": "tiny", "prompt": ' + DEEP + b"}", 400),
        (DEEP, 400),
        (b'{"model": "tiny", "prompt": "' + b"x" * (1 << 20) + b'"}', 413),
        (b'{"model": "tiny", "prompt": "\\u0000\\u001f\x7f", "max_tokens": 1}', 200),
    ],
)
def test_bodies_that_are_none(port, body, status) -> None:
    found, answer = ask(port, "/v1/completions", body)
    assert found == status, answer
    assert found == 200 or answer["error"]["message"]
    assert ask(port, "/v1/completions", ASKED)[0] == 200


def test_other_paths_methods_and_hosts(port) -> None:
    assert ask(port, "/nowhere")[1]["error"]["message"] == "Not Found"
    assert ask(port, "/v1/completions", method="DELETE")[0] == 405
    assert ask(port, "/health", method="HEAD") == (200, "") and ask(port, "/", method="HEAD")[0] == 200
    assert ask(port, "/v1/completions", method="HEAD")[0] == 405


@pytest.mark.parametrize(
    ("listens", "fine", "refused"),
    [
        ("127.0.0.1", ["127.0.0.1:8000", "localhost", "[::1]:8000", "LOCALHOST.", "127.0.0.9"], ["10.0.0.1"]),
        ("127.0.0.2", ["127.0.0.2", "localhost:1"], ["[2001:db8::1]"]),
        ("0.0.0.0", ["10.1.2.3:80", "localhost", "[2001:db8::1]"], ["localhost.evil.example"]),
        ("::", ["llm.example.org", "a.inside.example", "10.0.0.1"], ["inside.example", "example.org"]),
    ],
)
def test_hosts(listens, fine, refused) -> None:
    """A name that a foreign page could lead here is refused, whatever address the server listens on."""
    with served(hosts=own_hosts(listens, ["llm.example.org", "*.inside.example"])) as port:
        for host in fine:
            assert ask(port, "/health", headers={"Host": host})[0] == 200
        for host in (*refused, "evil.example", "127.0.0.1.evil.example", ""):
            status, answer = ask(port, "/health", headers={"Host": host})
            assert status == 400 and "--allow-host" in answer["error"]["message"]


def test_chat_that_asks_for_more_than_there_is(port) -> None:
    asked = {"model": NAME, "messages": [{"role": "user", "content": "a"}], "max_tokens": 2}
    for more in ({"tools": [{"type": "function"}]}, {"response_format": {"type": "json_object"}}):
        status, answer = ask(port, "/v1/chat/completions", asked | more)
        assert status == 400 and "not supported" in answer["error"]["message"]
    asked |= {"response_format": {"type": "text"}, "tools": [], "tool_choice": "none"}
    assert ask(port, "/v1/chat/completions", asked)[0] == 200


def test_a_text_too_long_to_look_at(port) -> None:
    status, answer = ask(port, "/liquid/time_constants", {"text": "x" * 4096})
    assert status == 400 and "send at most" in answer["error"]["message"]


# ---- many at once, and gone


def test_two_hundred_at_once_get_what_each_would_get_alone(port) -> None:
    def one(i: int):
        asked = ASKED | {"prompt": f"text {i % 50} " * (i % 7), "seed": i % 50, "max_tokens": 5 + i % 11}
        status, answer = ask(port, "/v1/completions", asked)
        return status, answer["choices"][0]["text"]

    with ThreadPoolExecutor(200) as pool:
        found = list(pool.map(one, range(200)))
    assert found[::4] == [one(i) for i in range(0, 200, 4)] and {status for status, _ in found} == {200}
    assert idle(port)


def test_connections_that_are_cut(port) -> None:
    for stream in (True, False):
        for _ in range(3):
            connection = raw(port, ENDLESS | {"stream": stream})
            if stream:
                assert b"200 OK" in connection.recv(4096)
            while not load(port)["running"]:
                time.sleep(0.01)
            connection.close()
            assert idle(port)
    for stream in (True, False):  # while the prompt is read, or waits
        several = [raw(port, ENDLESS | {"stream": stream, "prompt": "x" * 3999}) for _ in range(5)]
        for connection in several:
            connection.close()
        assert idle(port)
    raw(port, ENDLESS, length=10_000).close()  # of the body only a part came
    assert idle(port) and ask(port, "/v1/completions", ASKED)[0] == 200


def test_memory_stays_flat(port) -> None:
    process = psutil.Process()

    def many(count: int) -> None:
        for i in range(count):
            asked = ASKED | {"prompt": f"{i} {'x' * (i % 600)}", "max_tokens": 2, "stream": i % 3 == 0}
            assert ask(port, "/v1/completions", asked)[0] == 200

    many(60)
    before = process.memory_info().rss
    many(150)
    assert process.memory_info().rss - before < 24 << 20


# ---- requests made from the server's own description


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_whatever_is_asked_is_answered_as_described(port, mode) -> None:
    """Requests that fit the OpenAPI description, and some that do not quite."""
    description = schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/openapi.json")
    operations = [found.ok() for found in description.get_all_operations()]
    assert len(operations) == 12
    for operation in operations:

        @given(operation.as_strategy(generation_mode=mode))
        @settings(max_examples=20, suppress_health_check=list(HealthCheck))
        def check(case) -> None:
            response = case.call(timeout=60)
            # 413, a body over the server's limit, is a refusal too; schemathesis does not count it as one.
            refused = [negative_data_rejection] if response.status_code == 413 else []
            if case.path in ("/liquid/states", "/detokenize"):  # which ids there are depends on the model
                refused.append(positive_data_acceptance)
            case.validate_response(response, excluded_checks=refused)

        if mode is GenerationMode.POSITIVE or operation.method == "post":
            check()
    assert idle(port)

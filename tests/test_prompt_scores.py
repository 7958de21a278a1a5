"""Probabilities of a prompt's tokens: `echo` with `logprobs`, and what lm-eval makes of them."""

import pytest
import torch
from api_requests import ASKED
from serving import NAME, TOKENIZER, ask, served, tiny

from liquidlm.serve.prefixes import BLOCK

LONG = "a story — " * 120
SCORED = ASKED | {"echo": True, "logprobs": 2, "max_tokens": 0}


@pytest.fixture(scope="module")
def model():
    return tiny(time_components=3)


@pytest.fixture(scope="module")
def port(model):
    with served(model, scores=6000) as port:
        yield port


def scores(port: int, **fields) -> dict:
    status, found = ask(port, "/v1/completions", SCORED | fields)
    assert status == 200, found
    return found["choices"][0]["logprobs"]


def expected(model, ids: list[int]) -> torch.Tensor:
    """ln p of each id after the first."""
    with torch.no_grad():
        logprobs = model(torch.tensor([ids])).logits[0].float().log_softmax(-1)
    return logprobs[:-1].gather(-1, torch.tensor(ids[1:])[:, None])[:, 0]


def test_they_are_those_of_the_model(port, model) -> None:
    ids = [0, *TOKENIZER.encode(LONG).tolist()]
    assert len(ids) > 2 * BLOCK  # read in several blocks
    found = scores(port, prompt=LONG)
    assert found["token_logprobs"] == pytest.approx(expected(model, ids).tolist(), abs=1e-4)
    assert len(found["tokens"]) == len(found["text_offset"]) == len(ids) - 1
    for own, top in zip(found["token_logprobs"], found["top_logprobs"], strict=True):
        assert max(top.values()) >= own and len(top) <= 2
    shown = zip(found["text_offset"], found["tokens"], strict=True)
    assert [LONG[at] for at, token in shown if token == "y"] == ["y"] * 120
    assert scores(port, prompt=ids[1:]) == found == scores(port, prompt=LONG)  # by ids, and when it is cached


def test_the_start_of_a_prompt(port) -> None:
    """A `<s>` of the server is not listed; one of the client has nothing before it. It is not doubled."""
    with_start = scores(port, prompt=[0, 101, 102])
    assert with_start["tokens"] == ["<s>", "a", "b"] and with_start["text_offset"] == [0, 0, 1]
    assert with_start["token_logprobs"][0] is with_start["top_logprobs"][0] is None
    without = scores(port, prompt=[101, 102])
    assert without["token_logprobs"] == with_start["token_logprobs"][1:]
    assert scores(port, prompt="")["tokens"] == []


def test_the_text_goes_on_after_it(port) -> None:
    written = SCORED | {"max_tokens": 5, "prompt": "añb", "n": 2}
    _, whole = ask(port, "/v1/completions", written)
    for choice in whole["choices"]:
        found = choice["logprobs"]
        assert len(found["tokens"]) == 9 and found["text_offset"][:5] == [0, 1, 1, 2, 3]
        assert choice["text"].startswith("añb") and found["tokens"][-5:] != found["tokens"][:5]
        plain = scores(port, max_tokens=5, prompt="añb", echo=False, seed=ASKED["seed"])
    assert whole["choices"][0]["logprobs"]["token_logprobs"][4:] == plain["token_logprobs"]
    _, events = ask(port, "/v1/completions", written | {"stream": True})
    assert events.count('"echo"') == 0 and '"text": "a\\u00f1b"' in events


def test_without_a_word_more(port) -> None:
    status, found = ask(port, "/v1/completions", ASKED | {"max_tokens": 0})
    (choice,) = found["choices"]
    assert status == 200 and choice["text"] == "" and choice["finish_reason"] == "length"
    assert found["usage"]["completion_tokens"] == 0 and found["usage"]["prompt_tokens"] == 5


def test_more_than_the_rows_and_after_a_state(port, model) -> None:
    with served(model, rows=1) as narrow:
        _, found = ask(narrow, "/v1/completions", SCORED | {"prompt": ["abc", "abc"]})
    one, two = (choice["logprobs"] for choice in found["choices"])
    assert one == two == scores(port, prompt="abc")
    assert ask(port, "/liquid/states", {"name": "ab", "prompt": "ab"})[0] == 201
    later = scores(port, prompt="c", state="ab")
    assert later["tokens"] == ["c"] and later["text_offset"] == [0]
    assert later["token_logprobs"] == one["token_logprobs"][2:]


def test_lines_with_times(port) -> None:
    _, found = ask(
        port, "/v1/completions", SCORED | {"prompt": "[00:00:10] a\n[00:00:20] b", "timestamps": True}
    )
    (choice,) = found["choices"]
    shown, places = choice["text"], choice["logprobs"]["text_offset"]
    assert choice["logprobs"]["tokens"] == ["a", "\n", "b"] and places == [0, shown.index("\n"), places[2]]
    assert shown[places[2] :].endswith("b")


def test_the_last_token_is_listed_when_it_ends_the_text(port) -> None:
    """A client such as lm-eval takes the last token for the one that was written."""
    found = scores(port, prompt="ab", max_tokens=1, logit_bias={"2": 100})
    assert found["tokens"] == ["a", "b", "</s>"]


def test_text_to_tokens_and_back(port) -> None:
    _, found = ask(port, "/tokenize", {"prompt": "añ</s>"})
    ids = [0, *TOKENIZER.encode("añ</s>").tolist()]
    assert found["tokens"] == ids and found["count"] == len(ids) and found["token_strs"] is None
    asked = {"prompt": "ab", "add_special_tokens": False, "return_token_strs": True, "model": NAME}
    _, bare = ask(port, "/tokenize", asked)
    assert bare["tokens"] == [101, 102] and bare["token_strs"] == ["a", "b"]
    assert ask(port, "/detokenize", {"tokens": ids}) == (200, {"prompt": "añ</s>"})
    assert ask(port, "/detokenize", {"tokens": []}) == (200, {"prompt": ""})


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        ("/tokenize", {"prompt": "a", "model": "other"}, 404, "there is no model 'other'"),
        ("/tokenize", {"content": "a"}, 400, "prompt"),
        ("/detokenize", {"tokens": [500]}, 400, "token id 500 is outside"),
        ("/v1/embeddings", {"input": "a", "model": NAME}, 404, "this server has no embeddings"),
    ],
)
def test_what_the_tokenizer_does_not_do(port, path, body, status, says) -> None:
    found, answer = ask(port, path, body)
    assert found == status and says in answer["error"]["message"]


def test_what_is_too_much(port) -> None:
    status, answer = ask(port, "/v1/completions", SCORED | {"prompt": "x" * 2001})
    assert status == 400 and "send shorter prompts" in answer["error"]["message"]
    status, answer = ask(port, "/v1/completions", SCORED | {"prompt": [260, 261]})
    assert status == 400 and "there is no token 261" in answer["error"]["message"]
    assert ask(port, "/v1/completions", SCORED | {"model": NAME, "max_tokens": -1})[0] == 400

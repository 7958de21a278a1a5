"""Several models behind one server."""

from pathlib import Path

import pytest
from api_requests import ASKED
from serving import ask, load, served, tiny

from liquidlm.serve.limits import Limits
from liquidlm.serve.model_source import model_sources

FIRST, SECOND = "small", "large"


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    models = {FIRST: tiny(), SECOND: tiny(num_hidden_layers=4)}
    with served(models, states=tmp_path_factory.mktemp("states"), prompt_tokens=500) as port:
        yield port


def test_the_request_chooses(port) -> None:
    _, listed = ask(port, "/v1/models")
    assert [(card["id"], card["layers"]) for card in listed["data"]] == [(FIRST, 2), (SECOND, 4)]
    assert {card["max_model_len"] - card["max_tokens"] for card in listed["data"]} == {500}
    texts = []
    for name in (FIRST, SECOND):
        assert ask(port, f"/v1/models/{name}")[1]["id"] == name
        status, found = ask(port, "/v1/completions", ASKED | {"model": name})
        assert status == 200 and found["model"] == name
        texts.append(found["choices"][0]["text"])
        chat = {"model": name, "messages": [{"role": "user", "content": "a"}], "max_tokens": 2}
        assert ask(port, "/v1/chat/completions", chat)[1]["model"] == name
    assert texts[0] != texts[1]
    status, answer = ask(port, "/v1/completions", ASKED | {"model": "other"})
    assert status == 404 and "this server has 'small', 'large'" in answer["error"]["message"]
    assert load(port)["cached_prefixes"] >= 2


def test_each_has_its_own_states(port) -> None:
    for model, tokens in ((None, "ab"), (SECOND, "abc")):
        assert ask(port, "/liquid/states", {"name": "one", "prompt": tokens, "model": model})[0] == 201
    assert ask(port, "/liquid/states/one")[1]["tokens"] == 3  # of the first model
    assert ask(port, f"/liquid/states/one?model={SECOND}")[1]["tokens"] == 4
    asked = ASKED | {"model": SECOND, "state": "one"}
    assert ask(port, "/v1/completions", asked)[1]["usage"]["prompt_tokens"] == 8
    assert ask(port, "/liquid/states/one", method="DELETE")[0] == 200
    assert ask(port, "/liquid/states")[1]["data"] == []
    assert len(ask(port, f"/liquid/states?model={SECOND}")[1]["data"]) == 1
    assert ask(port, "/liquid/states?model=other")[0] == 404


def test_memory_is_shared_in_equal_parts() -> None:
    limits = Limits(cache_bytes=90, states_bytes=30)
    found = model_sources(["a", "b", "c"], [], limits, states=Path("s"))
    assert {(one.limits.cache_bytes, one.limits.states_bytes) for one in found} == {(30, 10)}
    assert [one.states for one in found] == [Path("s/a"), Path("s/b"), Path("s/c")]
    assert model_sources(["a"], [], limits, states=Path("s"))[0].states == Path("s")

"""States that clients keep by name: kept, listed, forked, deleted, and equal to reading all again."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from api_requests import ASKED
from serving import NAME, ask, served, tiny

from liquidlm import LiquidError
from liquidlm.serve import named_states
from liquidlm.serve.named_states import (
    NamedState,
    NoSuchState,
    StateExists,
    StatesInFolder,
    StatesInMemory,
    renamed,
)
from liquidlm.serve.prefixes import BLOCK, Base, HashedPrompt, Snapshot

FIRST, SECOND = "a story, " * 90, "and its end"
HOW = ASKED | {"logprobs": 3, "repetition_penalty": 1.2}


@pytest.fixture(scope="module")
def port():
    with served() as port:
        yield port


@pytest.fixture(autouse=True)
def no_states(request):
    if "port" in request.fixturenames:
        port = request.getfixturevalue("port")
        for one in ask(port, "/liquid/states")[1]["data"]:
            ask(port, f"/liquid/states/{one['name']}", method="DELETE")


def keep(port: int, name: str, **more) -> dict:
    status, found = ask(port, "/liquid/states", {"name": name} | more)
    assert status == 201, found
    return found


def text(port: int, **fields) -> dict:
    status, found = ask(port, "/v1/completions", HOW | fields)
    assert status == 200, found
    return found


def test_going_on_from_a_state_is_reading_all_again(port) -> None:
    for cut in (0, 1, BLOCK - 1, BLOCK, len(FIRST)):
        card = keep(port, f"at-{cut}", prompt=FIRST[:cut])
        assert card["tokens"] == cut + 1 and card["object"] == "state"
        with served(cache_bytes=0) as fresh:
            cold = text(fresh, prompt=FIRST + SECOND)
        warm = text(port, prompt=FIRST[cut:] + SECOND, state=f"at-{cut}")
        assert warm["choices"] == cold["choices"]  # probabilities too, to the bit
        assert warm["usage"]["prompt_tokens"] == cold["usage"]["prompt_tokens"]
        assert warm["usage"]["prompt_tokens_details"]["cached_tokens"] > cut
    keep(port, "ids", prompt=[4 + byte for byte in FIRST.encode()])
    assert text(port, prompt="", state="ids")["choices"] == text(port, prompt=FIRST)["choices"]


def test_a_state_has_its_own_clock(tmp_path) -> None:
    first, second = "[00:00:10] one\n[00:00:20] two", "[00:00:30] three"
    timed = {"timestamps": True}
    with served(tiny(time_components=3), states=tmp_path) as port:
        keep(port, "log", prompt=first, **timed)
        asked = timed | {"after": 60, "max_tokens": 80, "echo": True}
        later = text(port, prompt=second, state="log", **asked)["choices"][0]
        whole = text(port, prompt=f"{first}\n{second}", **asked)["choices"][0]
        assert later["text"] == whole["text"].removeprefix(first) and "\n[00:01:30" in later["text"]
        count, places = len(later["logprobs"]["tokens"]), later["logprobs"]["text_offset"]
        assert later["logprobs"]["tokens"] == whole["logprobs"]["tokens"][-count:]
        assert [at + len(first) for at in places] == whole["logprobs"]["text_offset"][-count:]
        bare = text(port, prompt="", state="log", **timed)  # it writes on, within the line
        assert bare["choices"] == text(port, prompt=first, **timed)["choices"]
        keep(port, "more", state="log", prompt=second, **timed)
        bare = text(port, prompt="", state="more", **timed)
        assert bare["choices"] == text(port, prompt=second, state="log", **timed)["choices"]
        back = HOW | timed | {"state": "log", "prompt": "[00:00:05] back"}
        status, answer = ask(port, "/v1/completions", back)
        assert status == 400 and "begin at [00:00:20] or later" in answer["error"]["message"]
        talk = {"name": "talk", "messages": [{"role": "user", "content": "a"}]} | timed
        assert ask(port, "/liquid/states", talk)[0] == 400
    with served() as port:
        status, answer = ask(port, "/liquid/states", {"name": "log", "prompt": first} | timed)
        assert status == 400 and "trained without times" in answer["error"]["message"]


def test_forks_go_their_own_ways(port) -> None:
    keep(port, "root", prompt=FIRST)
    copy = keep(port, "copy", state="root")
    keep(port, "left", state="root", prompt=" left")
    keep(port, "right", state="copy", prompt=[4 + byte for byte in b" right"])
    ask(port, "/liquid/states/root", method="DELETE")
    assert copy["tokens"] == len(FIRST) + 1
    for name, said in (("copy", ""), ("left", " left"), ("right", " right")):
        assert (
            text(port, prompt="!", state=name)["choices"] == text(port, prompt=FIRST + said + "!")["choices"]
        )
    several = text(port, prompt=["!", "?"], state="left", n=2, temperature=1.0)
    assert [one["text"] for one in several["choices"]] == [
        one["text"] for one in text(port, prompt=[f"{FIRST} left!", f"{FIRST} left?"], n=2)["choices"]
    ]


def test_conversations(port) -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]
    question = {"role": "user", "content": "What is time?"}
    keep(port, "talk", messages=turns)
    asked = {"model": NAME, "max_tokens": 12, "seed": 4}
    kept = ask(port, "/v1/chat/completions", asked | {"messages": [question], "state": "talk"})[1]
    whole = ask(port, "/v1/chat/completions", asked | {"messages": [*turns, question]})[1]
    assert kept["choices"] == whole["choices"]


def test_lists_and_mistakes(port) -> None:
    keep(port, "b", prompt="b")
    keep(port, "a.1_x-y", prompt="aa")
    found = ask(port, "/liquid/states")[1]
    assert [(one["name"], one["tokens"]) for one in found["data"]] == [("a.1_x-y", 3), ("b", 2)]
    assert ask(port, "/liquid/states/b")[1] == found["data"][1] and found["most_states"] == 1000
    for body, status, says in (
        ({"name": "b"}, 409, "already"),
        ({"name": "c", "state": "none"}, 404, "there is no state 'none'"),
        ({"name": "../c"}, 400, "name"),
        ({"name": "C"}, 400, "name"),
        ({"name": "c", "prompt": "x", "messages": []}, 400, "messages"),
        ({"name": "c", "prompt": [10**6]}, 400, "there is no token"),
        ({"name": "c", "text": "x"}, 400, "text"),
    ):
        found = ask(port, "/liquid/states", body)
        assert found[0] == status and says in found[1]["error"]["message"], found
    assert keep(port, "b", prompt="bbb", replace=True)["tokens"] == 4
    for path, method in (("/liquid/states/none", "GET"), ("/liquid/states/none", "DELETE")):
        assert ask(port, path, method=method)[0] == 404
    assert ask(port, "/v1/completions", ASKED | {"state": "none"})[0] == 404
    assert ask(port, "/liquid/states/b", method="DELETE")[1] == {
        "object": "state.deleted",
        "name": "b",
        "deleted": True,
    }


def test_the_key_guards_states() -> None:
    with served(api_key="k") as port:
        assert ask(port, "/liquid/states")[0] == ask(port, "/liquid/states", {"name": "a"})[0] == 401
        assert ask(port, "/liquid/states/a", method="DELETE")[0] == 401


# ---- the stores


def made(name: str, tokens: int = 3, fill: float = 1.0) -> NamedState:
    states = tiny().initial_states(1, torch.float32, torch.device("cpu"))
    states = [state.map(lambda part: torch.full_like(part, fill)) for state in states]
    prompt = HashedPrompt(np.arange(tokens))
    snapshot = Snapshot(tokens, states, torch.full((1, 7), fill), None)
    return NamedState(name, Base(snapshot, prompt.identity, prompt.tail), 5)


def stores(folder: Path, most: int = 3, most_bytes: int = 1 << 20):
    return [StatesInMemory(most, most_bytes), StatesInFolder(folder / "states", "this", most, most_bytes)]


def test_stores_keep_what_they_are_given(tmp_path) -> None:
    for store in stores(tmp_path):
        store.add(made("one"))
        with pytest.raises(StateExists, match="already"):
            store.add(made("one", fill=2.0))
        assert float(store.get("one").base.snapshot.states[0].h.max()) == 1.0
        store.add(made("one", fill=2.0), over=True)
        found = store.get("one").base
        assert float(found.snapshot.states[0].h.max()) == 2.0 and found.tail.tolist() == [0, 1, 2]
        assert found.identity == made("x").base.identity and found.snapshot.length == 3
        assert found.snapshot.logits is not None and found.snapshot.features is None
        store.add(renamed(store.get("one"), "two"))
        store.add(made("three", 9))
        with pytest.raises(StateExists, match="no room"):
            store.add(made("four"))
        assert [(one.name, one.tokens) for one in store.facts()] == [("one", 3), ("three", 9), ("two", 3)]
        store.remove("two")
        with pytest.raises(NoSuchState):
            store.remove("two")
        with pytest.raises(NoSuchState):
            store.get("two")
        store.add(made("four"))
    for store in stores(tmp_path / "small", most_bytes=3 * made("x").nbytes // 2):
        store.add(made("first"))
        with pytest.raises(StateExists, match="no room"):
            store.add(made("second", fill=2.0))


def test_two_servers_of_one_folder_see_each_other_s_states(tmp_path) -> None:
    one, two = (StatesInFolder(tmp_path, "this", 99, 1 << 24) for _ in range(2))
    other = StatesInFolder(tmp_path, "another model", 99, 1 << 24)
    one.add(made("a"))
    assert two.get("a").base.snapshot.length == 3 and [each.name for each in two.facts()] == ["a"]
    two.add(made("a", 8, fill=3.0), over=True)
    assert one.get("a").base.snapshot.length == 8 and one.facts()[0].tokens == 8
    one.remove("a")
    with pytest.raises(NoSuchState):
        two.get("a")
    one.add(made("a"))
    assert other.facts() == []
    with pytest.raises(LiquidError, match="another model"):
        other.get("a")
    with pytest.raises(StateExists):
        other.add(made("a"))  # it would overwrite what is not its own
    (tmp_path / "bad.safetensors").write_bytes(b"not a state")
    with pytest.raises(LiquidError, match="not readable"):
        one.get("bad")
    assert [each.name for each in one.facts()] == ["a"]
    with ThreadPoolExecutor(8) as pool:

        def race(store: StatesInFolder) -> bool:
            try:
                store.add(made("race"))
            except StateExists:
                return False
            return True

        assert sum(pool.map(race, [one, two] * 4)) == 1


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LiquidError, match="cannot be made"):
        StatesInFolder(tmp_path / "file", "this", 9, 1 << 20)
    with served(states=tmp_path / "states") as port:
        monkeypatch.setattr(named_states, "save_file", _full)
        status, found = ask(port, "/liquid/states", {"name": "a", "prompt": "b"})
        assert status == 500 and "No space left" in found["error"]["message"]
        assert list((tmp_path / "states").glob("*.safetensors")) == []  # the name is free again
        monkeypatch.undo()
        keep(port, "a", prompt="b")


def _full(*_) -> None:
    raise OSError(28, "No space left on device")


def test_states_outlive_the_server(tmp_path) -> None:
    model = tiny()
    with served(model, states=tmp_path) as port:
        keep(port, "kept", prompt=FIRST)
        whole = text(port, prompt=FIRST + SECOND)["choices"]
    with served(model, states=tmp_path, cache_bytes=0) as port:
        assert ask(port, "/liquid/states")[1]["data"][0]["tokens"] == len(FIRST) + 1
        assert text(port, prompt=SECOND, state="kept")["choices"] == whole
    with served(tiny(hidden_size=8), states=tmp_path) as port:
        status, found = ask(port, "/v1/completions", ASKED | {"state": "kept"})
        assert status == 400 and "another model" in found["error"]["message"]

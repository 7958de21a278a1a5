"""State files of `generate` and `watch`: what they keep, whatever ends a command; what is no such file."""

import errno
import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from liquidlm import LEDTokenizerWrapper, LiquidTextGenerationModel
from liquidlm.cli import writer
from liquidlm.inference.saving import load_model, save_model
from liquidlm.inference.state_files import alone
from liquidlm.inference.surprise import SurpriseReader
from liquidlm.nn.state import LiquidCache
from tests.helpers import randomise
from tests.test_streams import Raw, command  # noqa: F401

PROMPT = "The liquid año remembers. " * 8
GREEDY = ("--temperature", 0, "--repetition-penalty", 3)
BYTES = LEDTokenizerWrapper.bytes()


def saved_model(folder: Path, tokenizer: LEDTokenizerWrapper = BYTES, seed: int = 0) -> Path:
    sizes = {
        "embedding_dim": 16,
        "latent_dim": 8,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "ngram_rows": 64,
    }
    torch.manual_seed(seed)
    model = LiquidTextGenerationModel(vocab_size=tokenizer.vocab_size, dropout_rate=0.0, **sizes)
    folder.mkdir()
    save_model(folder, randomise(model), tokenizer)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_model(tmp_path_factory.mktemp("states") / "model")


@pytest.fixture
def generate(command, model: Path):  # noqa: F811
    def run(*words: object, **streams):
        return command("generate", model, *words, **streams)

    return run


class Fails(Raw):
    """Takes so many writes."""

    def __init__(self, number: int, writes: int):
        super().__init__()
        self.number, self.writes = number, writes

    def write(self, data) -> int:
        self.writes -= 1
        if self.writes == 0:
            self.fails = self.number
        return super().write(data)


def test_the_penalty_knows_what_a_loaded_state_has_read(generate, tmp_path: Path) -> None:
    state = tmp_path / "state"
    whole = generate(PROMPT, "--max-new-tokens", 16, *GREEDY)[1]  # no part ends within a character
    first = generate(PROMPT, "--max-new-tokens", 7, *GREEDY, "--save-state", state)[1]
    second = generate("--load-state", state, "", "--max-new-tokens", 4, *GREEDY, "--save-state", state)[1]
    third = generate("--load-state", state, "", "--max-new-tokens", 5, *GREEDY)[1]
    assert first.removesuffix("\n") + second.removesuffix("\n") + third == whole


def test_a_state_of_the_prompt_alone(generate, tmp_path: Path) -> None:
    state = tmp_path / "state"
    whole = generate(PROMPT, "--max-new-tokens", 9, *GREEDY)[1]
    code, kept, _ = generate(PROMPT, "--max-new-tokens", 0, "--save-state", state)
    assert code == 0 and kept == PROMPT + "\n"
    assert LiquidCache.load(state, 2)[0].get_seq_length() == len(PROMPT.encode())  # `<s>`, all but the last
    on = generate("--load-state", state, "", "--max-new-tokens", 9, *GREEDY)[1]
    assert kept.removesuffix("\n") + on == whole
    assert generate("", "--max-new-tokens", 0, "--save-state", state)[0] == 2


@pytest.mark.parametrize("writes", [1, 3])
@pytest.mark.parametrize(("number", "code"), [(errno.EPIPE, 141), (errno.ENOSPC, 2)])
def test_a_lost_standard_output_loses_no_state(
    generate, tmp_path: Path, writes: int, number: int, code: int
) -> None:
    """At the prompt, and at the second token."""
    state = tmp_path / "state"
    ended, _, err = generate(
        PROMPT, "--max-new-tokens", 9, *GREEDY, "--save-state", state, out=Fails(number, writes)
    )
    assert ended == code and ("No space left" in err) == (code == 2) and f"--load-state {state}" in err
    assert LiquidCache.load(state, 2)[0].get_seq_length() == len(PROMPT.encode()) + (0, 0, 0, 2)[writes]
    whole = generate(PROMPT, "--max-new-tokens", 9, *GREEDY)[1]
    on = generate("--load-state", state, "", "--max-new-tokens", 5, *GREEDY)[1].removesuffix("\n")
    assert on and on in whole


def test_ctrl_c_while_a_prompt_is_read_keeps_what_was_read(generate, tmp_path: Path, monkeypatch) -> None:
    state, pieces, read_output = tmp_path / "state", [], writer.read_output

    def interrupted(*args, **kwargs):
        pieces.append(1)
        if len(pieces) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return read_output(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(writer, "read_output", interrupted)
        patch.setattr(writer, "PIECE", 6)  # the second ends in the middle of ñ
        code, out, err = generate(PROMPT, "--max-new-tokens", 9, "--save-state", state)
    assert (code, out, len(pieces)) == (130, "", 2)
    assert LiquidCache.load(state, 2)[0].get_seq_length() == 12
    characters = int(err.split("the first ")[1].split()[0])
    assert 11 <= characters <= 13
    on = generate("--load-state", state, PROMPT[characters:], "--max-new-tokens", 9, *GREEDY)[1]
    assert PROMPT[:characters] + on == generate(PROMPT, "--max-new-tokens", 9, *GREEDY)[1]


class Unread:
    """Standard input that must not be read."""

    def isatty(self) -> bool:
        return False

    @property
    def buffer(self):
        raise AssertionError("read before the place of the state was looked at")

    fileno = buffer


@pytest.mark.parametrize("place", [".", "", "/", "folder", "none/state", "text.txt", "log.state"])
@pytest.mark.parametrize("words", [("generate", "--save-state"), ("watch", "--state")])
def test_a_place_where_no_state_can_be_is_refused_before_anything_is_read(
    command,  # noqa: F811
    model: Path,
    tmp_path: Path,
    monkeypatch,
    place: str,
    words: tuple[str, str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("text.txt").write_text("of mine")
    watched(model).save("log.state")
    if place == "log.state" and words[0] == "watch":
        pytest.skip("its own")
    before = {file: file.stat().st_mtime_ns for file in Path().iterdir()}
    code, out, err = command(words[0], model, words[1], place, stdin=Unread())
    assert code == 2 and out == "" and err.startswith("error: ") and err.count("\n") == 1
    assert {file: file.stat().st_mtime_ns for file in Path().iterdir()} == before


def watched(folder: Path) -> SurpriseReader:
    one = SurpriseReader(*load_model(folder))
    one.push(b"a line\n")
    return one


def test_a_file_of_another_kind_says_what_it_is(generate, command, model: Path, tmp_path: Path) -> None:  # noqa: F811
    files = {name: tmp_path / name for name in ("generate", "watch", "library", "training", "old", "empty")}
    assert generate("on", "--max-new-tokens", 1, "--save-state", files["generate"])[0] == 0
    reader = watched(model)
    reader.save(files["watch"])
    reader.state.save(files["library"])
    save_file({**reader.state.tensors(), "rng": torch.zeros(1, 1)}, files["training"])
    (tmp_path / "damaged").write_bytes(files["generate"].read_bytes()[:-9])
    other = saved_model(tmp_path / "other", seed=1)
    words = saved_model(tmp_path / "words", LEDTokenizerWrapper.train([PROMPT], 261))
    for folder, name, said in (
        (model, "watch", "a state that `watch --state` wrote"),
        (model, "library", "neither `generate --save-state` nor `watch --state`"),
        (model, "training", "belongs to a training run"),
        (model, "model/model.safetensors", "the weights of a model"),
        (model, "damaged", "not a readable liquid state (damaged"),
        (model, "missing", "there is no such file"),
        (model, ".", "it is a folder or a pipe"),
        (other, "generate", "the state of another model"),
        (words, "generate", "another tokenizer"),
    ):
        file = model / "model.safetensors" if "/" in name else tmp_path / name
        code, _, err = command("generate", folder, "on", "--load-state", file)
        assert code == 2 and said in err and err.count("\n") == 1, (name, err)
    code, _, err = command("watch", model, "--state", files["generate"])
    assert code == 2 and "`generate --save-state` wrote" in err
    # States of before this said who wrote them: a pending token, no tokenizer, no recent tokens.
    metadata = LiquidCache.load(files["generate"], 2)[1]
    old = {name: metadata[name] for name in ("pending", "pending_times", "model")}
    LiquidCache.load(files["generate"], 2)[0].save(files["old"], **old)
    assert generate("", "--max-new-tokens", 2, "--load-state", files["old"])[0] == 0
    files["empty"].touch()  # as mktemp makes it
    assert generate("on", "--max-new-tokens", 1, "--save-state", files["empty"])[0] == 0


@pytest.mark.skipif(os.name == "nt", reason="files are not locked there")
def test_two_watches_do_not_share_a_state(command, model: Path, tmp_path: Path) -> None:  # noqa: F811
    state = tmp_path / "log.state"
    with alone(state):
        code, _, err = command("watch", model, "--state", state, stdin=Unread())
        assert code == 2 and "in use by another `watch`" in err
    with alone(state):
        pass
    assert list(tmp_path.iterdir()) == []

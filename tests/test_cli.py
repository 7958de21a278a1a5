"""The command line as its users meet it: what it prints, what it keeps, and one line for every mistake."""

import io
import json
import math
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from liquidlm import LEDTokenizerWrapper
from liquidlm.cli import main as cli
from liquidlm.inference.saving import load_model
from liquidlm.nn.state import LiquidCache
from liquidlm.training.loop import train
from liquidlm.training.settings import TrainSettings
from tests import warm

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "embedding_dim": 16, "latent_dim": 8}
TEXT = "The liquid state remembers. " * 400


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained folder."""
    root = tmp_path_factory.mktemp("model")
    (root / "text.txt").write_text(TEXT)
    given = {"size": "tiny", "sizes": SIZES, "context": 32, "batch_size": 4, "bf16": False}
    train(TrainSettings(paths=[str(root / "text.txt")], steps=60, lr=0.04, **given), root / "run")  # type: ignore
    return root / "run"


class Ran:
    """Exit code and output of one command."""

    def __init__(self, code: int, out: str, err: str):
        self.code, self.out, self.err = code, out, err


class Stream(io.TextIOWrapper):
    """Standard input: a pipe with bytes, or a terminal that says nothing."""

    def __init__(self, text: str | bytes | None):
        super().__init__(io.BytesIO(text.encode() if isinstance(text, str) else text or b""), "utf-8")
        self.terminal = text is None

    def isatty(self) -> bool:
        return self.terminal


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], as_users_run):
    """Run a command in this process; standard input is `stdin`, or a terminal's without it."""

    def command(*words: object, stdin: str | bytes | None = None) -> Ran:
        monkeypatch.setattr(sys, "stdin", Stream(stdin))
        monkeypatch.setattr(sys, "argv", ["liquidlm", *map(str, words)])
        capsys.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return command


@pytest.mark.parametrize("words", [("train",), ("export", "stories")], ids=["train", "export"])
def test_an_empty_out_is_not_the_present_folder(run, tmp_path: Path, monkeypatch, words) -> None:
    monkeypatch.chdir(tmp_path)
    refused = run(*words, "--out", "")
    assert refused.code == 2 and "Invalid value for '--out': empty" in refused.err
    assert not list(tmp_path.iterdir())


def test_help_reads_like_documentation(run) -> None:
    for words, said in (
        ((), ("train", "generate", "eval", "liquidlm train --out runs/first --minutes 5")),
        (("train",), ("--tokenizer", "bpe:N", "--resume", "documentation in the Python standard library")),
        (("generate",), ("--save-state", "--repetition-penalty", "--samples")),
        (("eval",), ("--json", "state is carried")),
    ):
        result = run(*words, "--help")
        assert result.code == 0
        for words_ in said:
            assert words_ in " ".join(result.out.split())


def test_train_generate_eval_end_to_end(run, tmp_path: Path, drawn) -> None:
    text = tmp_path / "text.txt"
    text.write_text(TEXT)
    small = ["--size", "tiny", "--hidden-size", 32, "--layers", 2, "--context", 32, "--batch", 4]
    done = run("train", text, "--out", tmp_path / "run", "--steps", 3, "--tokenizer", "bpe:280", *small)
    assert done.code == 0 and "bits per byte" in done.err and (tmp_path / "run/curve.png").exists()
    written = run("generate", tmp_path / "run", "The liquid", "--max-new-tokens", 5, "--seed", 1)
    assert written.code == 0 and written.out.startswith("The liquid")
    judged = run("eval", tmp_path / "run", text)
    assert judged.code == 0 and "bits per byte over 11,200 bytes" in judged.out


def test_settings_come_from_a_file_and_the_command_line_counts_more(run, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    file = tmp_path / "run.toml"
    file.write_text(
        f'paths = ["{tmp_path / "text.txt"}"]\nminutes = 60\ncontext = 16\nbatch_size = 4\ndropout = 0.25\n'
        "[sizes]\nhidden_size = 32\nnum_hidden_layers = 2\nembedding_dim = 16\nlatent_dim = 8\nnum_flows = 2"
    )
    options = ["--steps", 2, "--dropout", 0, "--layers", 1, "--tokenizer", "bytes"]
    assert run("train", "--config", file, "--out", tmp_path / "run", *options).code == 0
    checkpoint = max((tmp_path / "run/checkpoints").iterdir())
    settings = json.loads((checkpoint / "run.json").read_text())["settings"]
    assert settings["context"] == 16 and settings["batch_size"] == 4 and settings["steps"] == 2
    assert settings["minutes"] is None and settings["dropout"] == 0 and settings["seed"] == 0
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "embedding_dim": 16, "latent_dim": 8, "num_flows": 2}
    assert settings["sizes"] == sizes


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hidden_size = 3", "hidden_size is not a setting; there are accumulate"),
        ("[sizes]\nwidth = 3", "sizes.width is not a setting"),
        ("hidden_size = 3", "it belongs under [sizes]"),
        ("batch = 3", "did you mean batch_size"),
        ("sizes = 3", "sizes must be a table"),
        ('steps = "100"', "run.toml: steps must be a whole number, not '100'"),
        ("steps = true", "steps must be a whole number, not True"),
        ('paths = "abc"', "paths must be a list, in [ ], not 'abc'"),
        ("weights = [1, []]", "weights[1] must be a number"),
        ("minutes = inf", "minutes must be finite, not inf"),
        ("[sizes]\nhidden_size = '64'", "sizes.hidden_size must be a whole number, not '64'"),
        ("steps = ", "cannot be read as settings"),
        (None, "No such file"),
    ],
)
def test_a_mistake_in_a_file_of_settings_is_one_line(
    run, tmp_path: Path, text: str | None, said: str
) -> None:
    if text is not None:
        (tmp_path / "run.toml").write_text(text)
    done = run("train", "--config", tmp_path / "run.toml", "--out", tmp_path / "run")
    assert done.code == 2 and said in done.err and done.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_same_seed_same_text_and_samples_differ(run, model: Path) -> None:
    first, again, other = (
        run("generate", model, "The", "--max-new-tokens", 20, "--seed", seed).out for seed in (1, 1, 2)
    )
    assert first == again != other
    samples = run("generate", model, "The", "--max-new-tokens", 20, "--seed", 1, "--samples", 3).out
    parts = samples.split("--- sample ")[1:]
    assert len(parts) == 3 and len({part[2:] for part in parts}) == 3
    assert parts[0][2:] == first


def test_prompt_from_argument_file_and_standard_input(run, model: Path, tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_text("The liquid")
    options = ("--max-new-tokens", 8, "--seed", 3)
    direct = run("generate", model, "The liquid", *options).out
    assert run("generate", model, "--file", tmp_path / "prompt.txt", *options).out == direct
    assert run("generate", model, *options, stdin="The liquid").out == direct
    assert run("generate", model, "-", *options, stdin="The liquid").out == direct


def test_a_saved_state_goes_on_as_if_never_stopped(run, model: Path, tmp_path: Path) -> None:
    """Greedy text in one go equals the same in two, the second from the saved state."""
    greedy = ("--temperature", 0)
    whole = run("generate", model, TEXT[:900], "--max-new-tokens", 12, *greedy).out
    state = tmp_path / "state"
    first = run("generate", model, TEXT[:900], "--max-new-tokens", 5, *greedy, "--save-state", state)
    assert first.code == 0
    second = run("generate", model, "--load-state", state, "--max-new-tokens", 7, *greedy)
    assert first.out.removesuffix("\n") + second.out == whole
    cache, metadata = LiquidCache.load(state, 2)
    assert cache.get_seq_length() == 1 + 900 + 4 and metadata["pending"]


def test_a_text_that_ended_needs_a_prompt_to_go_on(run, model: Path, tmp_path: Path, monkeypatch) -> None:
    state = tmp_path / "state"
    with monkeypatch.context() as patch:
        patch.setattr("liquidlm.cli.writer.write", lambda *_, **__: iter([torch.tensor([2])]))  # </s>
        ended = run("generate", model, "The liquid", "--save-state", state)
    assert ended.code == 0 and json.loads(LiquidCache.load(state, 2)[1]["pending"]) == []
    alone = run("generate", model, "--load-state", state)
    assert alone.code == 2 and "give a prompt to continue" in alone.err
    assert run("generate", model, "more", "--load-state", state).out.startswith("more")


def test_text_from_standard_input_is_kept_for_a_resumed_run(run, tmp_path: Path) -> None:
    small = ["--size", "tiny", "--hidden-size", 8, "--layers", 2, "--context", 32, "--batch", 4]
    out = tmp_path / "run"
    assert run("train", "-", "--out", out, "--steps", 2, *small, stdin=TEXT).code == 0
    assert (out / "standard-input.txt").read_text() == TEXT
    assert run("train", "--resume", "--out", out, "--steps", 4).code == 0
    bad = run("generate", out, stdin=b"\xff\xff")
    assert bad.code == 2 and "standard input is not UTF-8" in bad.err


def test_eval_json_agrees_with_the_model(run, model: Path, tmp_path: Path) -> None:
    """Bits per byte of two documents, computed again here from the logits of each document alone."""
    texts = ["The liquid state", "remembers. Ünïcödé"]
    for i, text in enumerate(texts):
        (tmp_path / f"{i}.txt").write_text(text)
    figures = json.loads(run("eval", model, tmp_path, "--json", "--chunk", 5).out)
    network, tokenizer = load_model(model)
    nats = 0.0
    for text in texts:
        ids, _ = tokenizer.tokenize(text)
        log_p = network(ids).logits.log_softmax(-1)[0, :-1]
        nats -= log_p.gather(1, ids[0, 1:, None]).sum().item()
    size = sum(len(text.encode()) for text in texts)
    assert figures["bytes"] == figures["tokens"] == size
    # bfloat16 products are allowed on machines that are faster with them
    assert math.isclose(figures["bits_per_byte"], nats / math.log(2) / size, rel_tol=5e-3)
    assert figures["state_bytes"] > 0 and figures["peak_memory_bytes"] > 1e7


BAD_TRAIN = {
    "missing file": (["nope.txt"], "no such file"),
    "empty file": (["empty.txt"], "empty"),
    "binary file": (["binary.txt"], "binary.txt"),
    "short corpus": (["short.txt"], "tokens"),
    "not JSON": (["bad.jsonl"], "bad.jsonl"),
    "negative width": (["good.txt", "--hidden-size", "-4"], "hidden_size must be at least 1"),
    "negative steps": (["good.txt", "--steps", "-1"], "steps must be greater than 0"),
    "no rows": (["good.txt", "--batch", "0"], "--batch must be greater than 0"),
    "weights of 0": (["good.txt", "--weight", "0"], "--weight must not be 0 for all paths"),
    "small vocabulary": (["good.txt", "--tokenizer", "bpe:7"], "too small"),
    "no number of merges": (["good.txt", "--tokenizer", "bpe:many"], "after bpe:"),
    "unknown size": (["good.txt", "--size", "giant"], "unknown size"),
    "hub without network": (["good.txt", "--tokenizer", "no-one/nothing"], "no-one/nothing"),
    "negative decay": (["good.txt", "--weight-decay", "-1"], "--weight-decay must be"),
    "unwritable output": (["good.txt", "--out", "good.txt/run"], "cannot write"),
}


@pytest.mark.parametrize("name", BAD_TRAIN)
def test_a_mistake_in_train_is_one_line(run, tmp_path: Path, monkeypatch, name: str) -> None:
    words, said = BAD_TRAIN[name]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for file, content in (
        ("good.txt", TEXT.encode()),
        ("empty.txt", b" \n"),
        ("binary.txt", b"\x00\x01\xff" * 500),
        ("short.txt", b"too short"),
        ("bad.jsonl", b'{"text": \n'),
    ):
        (tmp_path / file).write_bytes(content)
    out = [] if "--out" in words else ["--out", "run"]
    result = run("train", *words, *out)
    assert result.code == 2
    assert result.err.startswith("error: ") and result.err.count("\n") == 1 and said in result.err
    assert "Traceback" not in result.err and result.out == ""


def test_one_argument_is_a_model_or_a_prompt(run, model: Path) -> None:
    short = ("--max-new-tokens", 5, "--seed", 1)
    assert run("generate", model, *short, stdin="The liquid").out.startswith("The liquid")
    named = run("generate", "stories", "The cat", *short)
    alone = run("generate", "The cat", *short)
    assert named.out == alone.out
    assert named.err == ""
    assert "stories" in alone.err
    assert run("generate", *short, stdin="The cat").out == alone.out
    assert run("generate", "--file", model / "missing.txt").code == 2


def test_mistakes_in_generate_and_eval_are_one_line(run, model: Path, tmp_path: Path) -> None:
    (tmp_path / "no.state").write_text("not a state")
    for name in ("damaged", "mismatch"):
        shutil.copytree(model, tmp_path / name)
    weights = tmp_path / "damaged" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])
    (tmp_path / "mismatch" / "checksums.json").unlink()
    LEDTokenizerWrapper.train([TEXT], 300).save_pretrained(tmp_path / "mismatch")
    network, _ = load_model(model)
    foreign = network(torch.tensor([[0, 5]])).state
    foreign.save(tmp_path / "foreign.state", pending="[]", model="00000000")
    other = LiquidCache(9)
    other.save(tmp_path / "other.state", pending="0", vocab_size="7")
    for words, said in (
        (("generate", tmp_path / "nothing", "x"), "is not a folder"),
        (("generate", tmp_path / "nothing"), "is not a folder"),
        (("generate", tmp_path, "x"), "holds no model"),
        (("generate", model, "x", "--temperature", -1), "--temperature must be"),
        (("generate", model, "x", "--top-p", 0), "--top-p must be"),
        (("generate", model, "x", "--max-new-tokens", 0), "--max-new-tokens must be"),
        (("generate", model, "x", "--samples", 0), "--samples must be"),
        (("generate", model, "x", "--samples", 2, "--save-state", "f"), "--save-state"),
        (("generate", model, "x", "--load-state", tmp_path / "no.state"), "not a readable liquid state"),
        (("generate", model, "x", "--load-state", tmp_path / "missing"), "not a readable liquid state"),
        (("generate", model, "x", "--load-state", tmp_path / "other.state"), "lacks"),
        (("generate", model, "x", "--file", "y"), "there are two prompts"),
        (("generate", tmp_path / "damaged", "x"), "is damaged"),
        (("generate", tmp_path / "mismatch", "x"), "do not belong together"),
        (("train", "--out", model, "--resume", "--batch", 3), "leave --batch out"),
        (("train", "x.txt", "--out", model, "--resume"), "leave the PATHs out"),
        (("generate", model, "x", "--load-state", tmp_path / "foreign.state"), "another model"),
        (("generate", model, "x", "--save-state", tmp_path / "no" / "dir"), "cannot write"),
        (("eval", model, tmp_path / "nothing.txt"), "no such file"),
        (("eval", model, model / "curve.jsonl", "--chunk", 0), "--chunk must be"),
    ):
        result = run(*words)
        assert result.code == 2, words
        last = result.err.strip().splitlines()[-1]
        assert last.startswith("error: ") and said in last, (words, result.err)


def test_benchmarks_are_listed_and_run_by_name(run) -> None:
    listed = run("bench")
    assert listed.code == 0 and "training_step" in listed.out and "generation" in listed.out
    unknown = run("bench", "no-such-thing")
    assert unknown.code == 2 and "unknown benchmark" in unknown.err


def test_a_reader_that_goes_away_is_no_error(model: Path) -> None:
    reader, writer = os.pipe()
    command = ["generate", model, "The", "--max-new-tokens", 300, "--seed", 1]
    with tempfile.TemporaryFile() as said, open(os.devnull) as nothing:
        process = warm.start(command, nothing.fileno(), writer, said.fileno())
        os.close(writer)
        with open(reader, "rb") as read:  # then it goes away, as `head -c 5` does
            assert read.read(5).startswith(b"The")
        assert process.wait(120) == 141
        said.seek(0)
        assert said.read() == b""


def test_state_and_text_do_not_depend_on_how_the_prompt_is_cut(model: Path) -> None:
    """What `generate` reads in pieces is what one pass reads."""
    from liquidlm.inference.generate import read

    network, tokenizer = load_model(model)
    ids, _ = tokenizer.tokenize(TEXT[:700])
    states = [network.new_state(), network.new_state()]
    logits = [read(network, ids, state, chunk=size) for state, size in zip(states, (64, 5000), strict=True)]
    torch.testing.assert_close(logits[0], logits[1], rtol=1e-4, atol=1e-5)


def test_a_resumed_run_names_options_too(run, model) -> None:
    refused = run("train", "--resume", "--out", model, "--minutes", "-1")
    assert refused.code == 2 and refused.err.startswith("error: --minutes must be greater than 0")


def test_a_missing_out_is_named(run) -> None:
    refused = run("train", "any.txt")
    assert refused.code == 2 and "--out" in refused.err and "missing" in refused.err


def test_a_prompt_that_is_the_name_of_a_file_gets_a_note(run, model, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "año.txt").write_bytes("El año empieza.".encode("latin-1"))
    words = ("generate", model, "--max-new-tokens", "1")
    found = run(*words, "año.txt")
    assert found.code == 0 and "note: the prompt is the name of a file; --file año.txt" in found.err
    assert "--encoding" in run(*words, "--file", "año.txt").err
    assert run(*words, "--file", "año.txt", "--encoding", "latin-1").out.startswith("El año empieza.")
    assert "--encoding needs --file" in run(*words, "El", "--encoding", "latin-1").err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rate", "0.1"], "--rate needs --adapt"),
        (["--adapt", "--rate", "0"], "must be above 0 and at most 1"),
        (["--adapt", "--weights", "int8"], "leave --weights int8"),
    ],
)
def test_options_of_eval_that_do_not_fit_together(words, said, run, tmp_path):
    (tmp_path / "text.txt").write_text("once upon a time", encoding="utf-8")
    refused = run("eval", "stories", str(tmp_path / "text.txt"), *words)
    assert refused.code == 2 and said in refused.err and refused.err.count("\n") == 1


def test_eval_with_adapt_says_so_and_leaves_the_folder_as_it_was(run, model, tmp_path):
    (tmp_path / "text.txt").write_text("once upon a time, " * 80, encoding="utf-8")
    before = (model / "model.safetensors").read_bytes()
    found = run("eval", str(model), str(tmp_path / "text.txt"), "--adapt", "--rate", "0.01")
    assert found.code == 0 and "learning on while it reads" in found.out.splitlines()[0]
    assert (model / "model.safetensors").read_bytes() == before

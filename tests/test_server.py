"""The server as a process: keys, limits, stopping, its command line."""

import importlib
import re
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from api_requests import ASKED, ENDLESS, raw
from serving import TOKENIZER, ask, idle, load, served, tiny

from liquidlm.cli import main as cli
from liquidlm.inference.saving import save_model


def test_a_body_that_does_not_come() -> None:
    with served(body_seconds=0.2) as port, raw(port, ASKED, length=10_000) as connection:
        assert b"408" in connection.recv(4096)


def test_a_text_whose_time_is_up_before_it_is_begun() -> None:
    with served(rows=1, seconds=0.4) as port, raw(port, ENDLESS | {"stream": True}) as first:
        assert b"200 OK" in first.recv(4096)
        status, answer = ask(port, "/v1/completions", ASKED)
        # The first text's time is up a little before: this one may have been begun, or not.
        assert status == 200 or (status == 503 and "before the text was begun" in answer["error"]["message"])


def test_an_api_key() -> None:
    with served(api_key="geheim ü") as port:
        assert ask(port, "/v1/completions", b"{")[0] == 401  # whatever the body is
        assert ask(port, "/health")[0] == 200 and ask(port, "/")[0] == 200
        for header in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": "Basic Zzz"}):
            status, answer = ask(port, "/v1/completions", ASKED, header)
            assert status == 401 and answer["error"]["type"] == "authentication_error"
            assert answer["error"]["message"].startswith("no valid API key")
            assert ask(port, "/liquid/time_constants", {"text": "a"}, header)[0] == 401
        key = {"Authorization": "Bearer geheim ü".encode().decode("latin-1")}
        assert ask(port, "/v1/completions", ASKED, key)[0] == 200


def test_too_many_wait() -> None:
    with served(rows=1, waiting=1, seconds=1.0) as port:
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda _: ask(port, "/v1/completions", ENDLESS)[0], range(8)))
        assert found.count(429) >= 4 and found.count(200) >= 1 and set(found) <= {200, 429, 503}
        assert ask(port, "/v1/completions", ASKED)[0] == 200


def test_a_model_that_breaks() -> None:
    model = tiny()
    with torch.no_grad():
        model.output_proj.weight[5] = float("nan")
    with served(model) as port:
        status, answer = ask(port, "/v1/completions", ASKED)
        assert status == 500 and "the model failed" in answer["error"]["message"]
        assert idle(port)


# ---- as a process


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals there")
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, -signal.SIGTERM)])
def test_a_stream_comes_to_its_end_when_the_server_is_stopped(sent, code, tmp_path) -> None:
    """And the model can be replaced before, without a word lost."""
    save_model(tmp_path, tiny(), TOKENIZER)
    # For the test the texts that are being written get half a second, not ten.
    script = (
        "import sys; from liquidlm.serve.model_source import model_sources;"
        " from liquidlm.serve.server import Limits, serve;"
        " limits = Limits(shutdown_seconds=0.5);"
        " serve(model_sources([sys.argv[1]], [], limits), limits, host='127.0.0.1', port=0)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=with_all_signals,
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        while "http://" not in line:
            assert line, "the server did not start"
            line = process.stderr.readline()
        port = int(re.findall(r":(\d+)", line)[0])
        asked = ENDLESS | {"model": tmp_path.name, "stream": True}
        connection = raw(port, asked)
        assert b"200 OK" in connection.recv(4096)
        if sent == signal.SIGTERM:
            replace_model(process, port, tmp_path)
        process.send_signal(sent)
        text = b""
        while part := connection.recv(1 << 16):
            text += part
        connection.close()
        assert b'"finish_reason": "length"' in text and b"data: [DONE]" in text
        assert process.wait(30) == code
    finally:
        process.kill()
        process.stderr.close()
        process.wait()


def with_all_signals() -> None:
    """Signals that a child would ignore, because the tests were started with nohup or in the background."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def replace_model(process: subprocess.Popen[str], port: int, folder: Path) -> None:
    """SIGHUP with another model in the folder, and with a broken one."""

    def said() -> str:
        process.send_signal(signal.SIGHUP)
        assert process.stderr is not None
        return process.stderr.readline()

    kept = {"name": "kept", "prompt": "a"}
    assert ask(port, "/liquid/states", kept)[0] == 201
    assert said() == f"{folder.name} is reloaded\n"  # nothing has changed: the state is still there
    assert ask(port, "/liquid/states/kept")[0] == 200
    save_model(folder, tiny(num_hidden_layers=3), TOKENIZER)
    assert "1 kept states are of the old ones" in said()
    assert ask(port, "/v1/models")[1]["data"][0]["layers"] == 3
    assert ask(port, "/v1/completions", ASKED | {"model": folder.name})[0] == 200
    assert ask(port, "/liquid/states/kept")[0] == 404 and load(port)["running"] == 1
    (folder / "config.json").write_text("{")
    assert "is not reloaded, the old model stays in use" in said()
    assert ask(port, "/v1/completions", ASKED | {"model": folder.name})[0] == 200


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["no-such-folder"], "is not a folder"),
        (["--port", "99999"], "65535"),
        (["--host", "no.such.host.invalid"], "cannot listen"),
        (["--rows", "0"], "--rows must be greater than 0"),
        (["--seconds", "nan"], "--seconds must be greater than 0"),
        (["--waiting", "0"], "--waiting"),
        (["--api-key", ""], "--api-key is empty"),
        (["--api-key", "a b\n"], "no header can have"),
        (["--api-key-file", "no-such-file"], "cannot be read"),
        (["--name", " "], "--name"),
        (["--name", "a", "--name", "b"], "2 names are given for 1 models"),
        (["x/novel", "y/novel"], "two models have the name 'novel'"),
    ],
)
def test_mistakes_on_the_command_line(args, says, monkeypatch, capsys, as_users_run) -> None:
    monkeypatch.setattr(sys, "argv", ["liquidlm", "serve", "--port", "0", *args])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert exit_.value.code == 2 and says in capsys.readouterr().err


def test_an_address_that_is_taken(monkeypatch, capsys, as_users_run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(sys, "argv", ["liquidlm", "serve", "--port", str(taken.getsockname()[1])])
        with pytest.raises(SystemExit):
            cli.main()
    assert "cannot listen on 127.0.0.1" in capsys.readouterr().err


def test_without_the_extra(monkeypatch, capsys, as_users_run) -> None:
    for name in [name for name in sys.modules if name.startswith("liquidlm.serve")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    monkeypatch.setattr(sys, "argv", ["liquidlm", "serve"])
    with pytest.raises(SystemExit):
        cli.main()
    assert "-e '.[serve]'" in capsys.readouterr().err


def test_where_a_key_comes_from(tmp_path, monkeypatch, capsys, as_users_run) -> None:
    given: list[str | None] = []
    server = importlib.import_module("liquidlm.serve.server")
    monkeypatch.setattr(server, "serve", lambda *_, api_key, **__: given.append(api_key))
    file = tmp_path / "key"
    file.write_text("of a file\nand more\n")

    def run(*args: str) -> str:
        monkeypatch.setattr(sys, "argv", ["liquidlm", "serve", *args])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        said = capsys.readouterr().err
        return said if exit_.value.code in (0, None) else f"refused: {said}"

    assert run() == "" and run("--api-key-file", str(file)) == ""
    assert "list of processes: use --api-key-file" in run("--api-key", "argument")
    assert "both given" in run("--api-key", "argument", "--api-key-file", str(file))
    monkeypatch.setenv("LIQUIDLM_API_KEY", "environment")
    assert run() == ""
    for empty in ("", " "):
        monkeypatch.setenv("LIQUIDLM_API_KEY", empty)
        assert "$LIQUIDLM_API_KEY is empty" in run()
    assert given == [None, "of a file", "argument", "environment"]

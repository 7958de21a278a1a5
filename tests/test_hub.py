"""A data set read over a network, streamed and downloaded, from a stand-in of the hub on this machine."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

datasets = pytest.importorskip("datasets", reason="the extra 'datasets' is not installed")

TEXTS = [f"Tale {i}: señor, {'word ' * i}" for i in range(40)]
FILE, COMMIT = "train.parquet", "a" * 40
READ = """
import json, sys
from liquidlm.text.corpus import read_documents
from liquidlm.errors import LiquidError
try:
    print(json.dumps([document.text for document in read_documents(sys.argv[1])]))
except LiquidError as error:
    print(error)
"""


class Hub(ThreadingHTTPServer):
    """One data set, own/tales, of one file, by the part of the hub's interface that `datasets` asks for."""

    def __init__(self, content: bytes):
        super().__init__(("127.0.0.1", 0), HubRequest)
        self.content = content


class HubRequest(BaseHTTPRequestHandler):
    server: Hub  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path, content = urlsplit(self.path).path, self.server.content
        if path.startswith("/datasets/own/tales/resolve/") and path.endswith(f"/{FILE}"):
            self._send_file(content)
        elif path.endswith(f"/tree/{COMMIT}"):
            self._send([{"type": "file", "path": FILE, "size": len(content), "oid": "b" * 40}])
        elif path in ("/api/datasets/own/tales", f"/api/datasets/own/tales/revision/{COMMIT}"):
            facts = {"id": "own/tales", "sha": COMMIT, "private": False, "disabled": False, "tags": []}
            self._send({**facts, "downloads": 0, "likes": 0, "siblings": [{"rfilename": FILE}]})
        else:
            self._send({"error": "not found"}, 404, {"X-Error-Code": "EntryNotFound"})

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None: ...

    def _send_file(self, content: bytes) -> None:
        facts = {"ETag": '"one"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if asked := self.headers.get("Range"):
            first, last = asked.removeprefix("bytes=").split("-")
            part = content[int(first) : int(last or len(content)) + 1]
            end = int(first) + len(part) - 1
            facts["Content-Range"] = f"bytes {first}-{end}/{len(content)}"
            self._send(part, 206, facts)
        else:
            self._send(content, 200, facts)

    def _send(self, content: object, status: int = 200, facts: dict[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(facts or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[str]:
    file = tmp_path / FILE
    datasets.Dataset.from_dict({"text": TEXTS}).to_parquet(file)
    with Hub(file.read_bytes()) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def read(name: str, hub: str, home: Path) -> str:
    """What a process of its own prints: the hub's address is read when its packages are imported."""
    network = {"HF_ENDPOINT": hub, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", READ, name],
        env={**os.environ, **network, "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "downloaded"])
def test_documents_of_the_hub(hub: str, tmp_path: Path, stream: bool) -> None:
    home = tmp_path / "home"
    assert json.loads(read(f"hf:own/tales?stream={int(stream)}", hub, home)) == TEXTS
    kept = [file for file in home.rglob("*") if file.suffix == ".arrow" or file.name == "one"]
    assert bool(kept) == (not stream)  # what is streamed is not kept


def test_a_data_set_that_the_hub_does_not_have(hub: str, tmp_path: Path) -> None:
    said = read("hf:own/nothing?stream=1", hub, tmp_path)
    assert said.startswith("hf:own/nothing?stream=1 cannot be read: ")
    assert said.count("\n") == 1

"""Two servers behind a real nginx, with the configuration of the documentation and one folder of states."""

import json
import re
import shutil
import socket
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from api_requests import ASKED, ENDLESS
from serving import ask, idle, load, served

from liquidlm.serve.access_log import AccessLog

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
DOCS = Path(__file__).parents[1] / "docs"
AROUND = """
daemon off;
pid {folder}/pid;
error_log {folder}/errors;
{user}
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {servers}
}}
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return one.getsockname()[1]


def configuration(folder: Path, ports: dict[str, int]) -> str:
    """That of the documentation, with other ports."""
    found = re.search(r"```nginx\n(.*?)```", (DOCS / "operating.md").read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    servers = found[1]
    for shown, real in ports.items():
        assert shown in servers
        servers = servers.replace(shown, str(real))
    root = "user root;" if Path("/").owner() == Path(folder).owner() else ""
    return AROUND.format(folder=folder, servers=servers.replace("listen ", "listen 127.0.0.1:"), user=root)


@pytest.fixture(scope="module")
def ports(tmp_path_factory):
    """Of nginx and of the two servers; their folder, and what stops the second one."""
    folder = tmp_path_factory.mktemp("nginx")
    log = AccessLog(str(folder / "access.log"))
    with served(states=folder / "states", app={"log": log}) as one, ExitStack() as second:
        two, port = second.enter_context(served(states=folder / "states")), free_port()
        text = configuration(folder, {"8001": one, "8002": two, "8000": port})
        (folder / "nginx.conf").write_text(text)
        command = [
            str(NGINX),
            "-p",
            str(folder),
            "-c",
            str(folder / "nginx.conf"),
            "-e",
            str(folder / "errors"),
        ]
        process = subprocess.Popen(command)
        try:
            for _ in range(500):
                with socket.socket() as tried:
                    if tried.connect_ex(("127.0.0.1", port)) == 0:
                        break
                assert process.poll() is None, (folder / "errors").read_text()
                time.sleep(0.01)
            yield port, one, two, folder, second
        finally:
            process.terminate()
            process.wait(30)
    log.close()


def test_a_state_kept_through_one_server_is_used_through_the_other(ports) -> None:
    port, *both, _, _ = ports
    before = [load(one)["cached_prefixes"] for one in both]
    assert ask(port, "/liquid/states", {"name": "book", "prompt": "a story, " * 90})[0] == 201
    asked = ASKED | {"state": "book", "prompt": "and its end", "logprobs": 2}
    answers = [ask(port, "/v1/completions", asked) for _ in range(4)]
    direct = [ask(one, "/v1/completions", asked) for one in both]
    assert {status for status, _ in (*answers, *direct)} == {200}
    found = [answer["choices"] for _, answer in (*answers, *direct)]
    assert all(one == found[0] for one in found)
    after = [load(one)["cached_prefixes"] for one in both]
    assert all(new > old for new, old in zip(after, before, strict=True))  # nginx asked both
    assert ask(port, "/liquid/states/book", method="DELETE")[0] == 200
    assert [ask(one, "/liquid/states/book")[0] for one in both] == [404, 404]


def test_streams_are_not_held_back_and_end_with_their_client(ports) -> None:
    port, *both, _, _ = ports
    body = json.dumps(ENDLESS | {"stream": True}).encode()
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        head = "POST /v1/completions HTTP/1.1\r\nHost: llm.example.org\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        text = b""
        while b"data: " not in text:  # it comes while the text is being written, of which there is no end
            text += connection.recv(256)
        assert len(text) < 4096 and sum(load(one)["running"] for one in both) == 1
    assert all(idle(one) for one in both)


def test_the_log_has_the_address_of_the_client(ports) -> None:
    port, _, _, folder, _ = ports
    sent = {"X-Forwarded-For": "203.0.113.9"}
    for _ in range(2):  # one for each server
        assert ask(port, "/v1/models", headers=sent)[0] == 200
    line = "client=203.0.113.9 method=GET path=/v1/models status=200"
    for _ in range(500):  # a client may have its answer a little before
        if line in (folder / "access.log").read_text():
            return
        time.sleep(0.01)
    raise AssertionError((folder / "access.log").read_text())


def test_the_other_server_goes_on_alone(ports) -> None:
    port, *_, second = ports
    second.close()
    assert [ask(port, "/v1/completions", ASKED)[0] for _ in range(4)] == [200] * 4

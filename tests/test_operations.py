"""What operators see of a server: figures, a log of requests; and web pages of other sites."""

import http.client
import json
import re
import time

import pytest
from api_requests import ASKED
from prometheus_client.parser import text_string_to_metric_families
from serving import NAME, ask, served

from liquidlm import LiquidError
from liquidlm.serve.access_log import AccessLog
from liquidlm.serve.listening import check_origin

ORIGIN = "https://chat.example.org"
KEY = {"Authorization": "Bearer k"}


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return tmp_path_factory.mktemp("log") / "access.log"


@pytest.fixture(scope="module")
def port(log):
    written = AccessLog(str(log))
    with served(api_key="k", app={"origins": [ORIGIN], "log": written}) as port:
        yield port
    written.close()


def lines(log, last: str) -> list[dict[str, str]]:
    """The lines, once the one of this path is written: a client may have its answer a little before."""
    for _ in range(500):
        text = log.read_text() if log.exists() else ""
        found = [dict(pair.split("=", 1) for pair in line.split(" ")) for line in text.splitlines()]
        if found and found[-1]["path"] == last:
            return found
        time.sleep(0.01)
    raise AssertionError(text)


def figures(port: int) -> dict[tuple, float]:
    """Each figure, by its name and the values of its labels, in the order of their names."""
    status, text = ask(port, "/metrics", headers=KEY)
    assert status == 200
    families = text_string_to_metric_families(text)
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


def test_figures(port) -> None:
    before = figures(port)
    long = ASKED | {"prompt": "secret " * 100, "stream": True}
    for _ in range(2):
        assert ask(port, "/v1/completions", long, KEY)[0] == 200
    assert ask(port, "/v1/completions", ASKED | {"max_tokens": -1}, KEY)[0] == 400
    assert ask(port, "/v1/models/some-name", headers=KEY)[0] == 404
    assert ask(port, "/liquid/states", {"name": "kept", "prompt": "abc"}, KEY)[0] == 201
    time.sleep(0.05)  # a client may have its answer a little before it is counted
    after = figures(port)

    def more(*name) -> float:
        return after[name] - before.get(name, 0)

    assert more("liquidlm_requests_total", "POST", "/v1/completions", "200") == 2
    assert more("liquidlm_requests_total", "POST", "/v1/completions", "400") == 1
    assert more("liquidlm_requests_total", "GET", "/v1/models/{model_id:path}", "404") == 1
    assert more("liquidlm_request_seconds_count", "/v1/completions") == 3
    assert more("liquidlm_first_token_seconds_count", NAME) == 3
    assert more("liquidlm_tokens_total", "written", NAME) == 40
    assert more("liquidlm_tokens_total", "read", NAME) + more("liquidlm_tokens_total", "cached", NAME) == 1406
    assert 701 <= more("liquidlm_tokens_total", "cached", NAME) <= 702
    assert after["liquidlm_named_states", NAME] == 1 and after["liquidlm_named_states_bytes", NAME] > 0
    assert after["liquidlm_waiting", NAME] == 0 and after["liquidlm_cached_bytes", NAME] > 0


def test_names_that_clients_invent_are_one_figure(port) -> None:
    for method in ("PUT", "PATCH", "PROPFIND"):
        ask(port, f"/nowhere/{method}", headers=KEY, method=method)
    odd = [
        key for key in figures(port) if "liquidlm_requests_total" in key and "404" in key and "other" in key
    ]
    assert odd == [("liquidlm_requests_total", "other", "other", "404")]
    assert ask(port, "/metrics")[0] == 401


def test_a_line_for_each_request(port, log) -> None:
    asked = ASKED | {"prompt": "a secret", "n": 2}
    assert ask(port, "/v1/completions?why=secret", asked, KEY)[0] == 200
    assert ask(port, "/v1/completions", asked)[0] == 401
    assert ask(port, "/health", method="HEAD")[0] == 200
    assert ask(port, "/a%0Ab%20status=200", headers=KEY)[0] == 404
    answered, refused, head, odd = lines(log, "/a%0Ab%20status%3D200")[-4:]
    assert "secret" not in log.read_text()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", answered["time"])
    assert answered["client"] == "127.0.0.1" and answered["method"] == "POST" and int(answered["ms"]) >= 0
    assert answered["path"] == "/v1/completions" and answered["status"] == "200"
    tokens = {key: answered[key] for key in ("model", "prompt_tokens", "completion_tokens")}
    assert tokens == {"model": NAME, "prompt_tokens": "9", "completion_tokens": "40"}
    assert refused["status"] == "401" and "prompt_tokens" not in refused
    assert (head["method"], head["status"]) == ("HEAD", "200")
    assert odd["status"] == "404"


def test_a_log_that_was_moved_or_cannot_be_written(port, log, tmp_path) -> None:
    log.rename(log.with_suffix(".1"))
    ask(port, "/health")
    assert len(lines(log, "/health")) == 1
    with pytest.raises(LiquidError, match="cannot be opened"):
        AccessLog(str(tmp_path / "none" / "log"))


def answer_to(port: int, method: str, headers: dict[str, str], body=None) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    sent = None if body is None else json.dumps(body)
    connection.request(method, "/v1/completions", sent, {"Content-Type": "application/json", **headers})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer


def test_pages_of_other_sites(port) -> None:
    wanted = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,x-odd",
    }
    may = answer_to(port, "OPTIONS", {"Origin": ORIGIN} | wanted)
    assert may.status == 200 and may.headers["access-control-allow-origin"] == ORIGIN
    assert "x-odd" in may.headers["access-control-allow-headers"]
    for key, status in ((KEY, 200), ({}, 401)):  # a refusal can be read too
        answer = answer_to(port, "POST", {"Origin": ORIGIN} | key, ASKED)
        assert answer.status == status and answer.headers["access-control-allow-origin"] == ORIGIN
    for other in ("https://evil.example", f"{ORIGIN}.evil.example", "null", "http://chat.example.org"):
        assert answer_to(port, "OPTIONS", {"Origin": other} | wanted).status == 400
        refused = answer_to(port, "POST", {"Origin": other} | KEY, ASKED)
        assert "access-control-allow-origin" not in refused.headers
    with served() as closed:
        assert "access-control-allow-origin" not in answer_to(closed, "OPTIONS", {"Origin": ORIGIN}).headers


@pytest.mark.parametrize(
    "bad", ["chat.example.org", "https://a.example/", "https://A.example", "null", "", "*.a"]
)
def test_what_is_not_an_origin(bad) -> None:
    with pytest.raises(LiquidError, match="give an origin such as"):
        check_origin(bad)


@pytest.mark.parametrize("good", ["http://[::1]:3000", "chrome-extension://abcdef", "*"])
def test_origins_of_pages(good) -> None:
    check_origin(good)

"""The log of a service that never was: requests, sessions, jobs that come round, and anomalies if asked for.

Each kind of line comes from a process of its own; all run side by side over one clock.
"""

import heapq
import math
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

KINDS = (
    "rare message",
    "impossible fields",
    "wrong order",
    "strange value",
    "burst",
    "early heartbeat",
    "missing heartbeat",
)
"""What is planted; only times give the last three away."""
BEGIN = 1_767_225_600.0
"""2026-01-01, UTC."""
HOSTS = {"web-1": "eu", "web-2": "eu", "web-3": "us"}
ENDPOINTS = {
    "/items/{id}": (("GET",), 12),
    "/search": (("GET",), 85),
    "/cart": (("POST", "DELETE"), 31),
    "/login": (("POST",), 140),
    "/health": (("GET",), 1),
}
"""Path: the methods that it takes, and its median in milliseconds."""
ENDPOINT_WEIGHTS = (40, 20, 15, 15, 10)
STATUS = {"GET": (200, 304, 404), "POST": (201, 400), "DELETE": (204,)}
STATUS_WEIGHTS = {"GET": (92, 5, 3), "POST": (95, 5), "DELETE": (100,)}
USERS = ("ana", "ben", "chloe", "dmitri", "ewa", "farid", "grace", "hiro", "ines", "jonas")
RARE = (
    "{host} disk /dev/sda1 is read-only",
    "{host} out of memory: killed worker {n}",
    "{host} certificate expires in {n} hours",
    "{host} segfault at 0x{n:08x} in parser",
    "db replica lost, lag {n} s",
    "db deadlock between transactions {n} and {m}",
    "{host} config reloaded by root",
    "queue overflow, {n} messages dropped",
    "{host} clock skew of {n} ms",
    "session store unreachable, retry {n}",
)


class Entry(NamedTuple):
    """A line, when, and which of KINDS it is; "" if it is as usual."""

    time: float
    text: str
    kind: str = ""

    @property
    def line(self) -> str:
        """As the log has it."""
        moment = datetime.fromtimestamp(self.time, UTC)
        return f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03} {self.text}"


Lines = Iterator[tuple[float, str, str]]
"""Seconds since the last line of the same process, its text and its kind. Without a text: what is missing,
which the line that comes instead gives away."""


def service_log(lines: int, seed: int, rate: float = 0.0) -> list[Entry]:
    """So many lines in the order of their times; about `rate` of them are anomalies, all kinds alike.

    The same seed gives the same log.
    """
    draw = random.Random(seed)
    chance = {kind: rate / len(KINDS) for kind in KINDS}
    running = [
        _heartbeat(random.Random(draw.random()), chance),
        _metrics(random.Random(draw.random()), chance),
        _cleanup(random.Random(draw.random())),
        _requests(random.Random(draw.random()), chance),
        *(_shopper(random.Random(draw.random()), chance) for _ in range(3)),
    ]
    waiting = [
        (BEGIN + wait, number, text, kind) for number, (wait, text, kind) in enumerate(map(next, running))
    ]
    heapq.heapify(waiting)
    entries, missed = [], ""
    while len(entries) < lines:
        time, number, text, kind = waiting[0]
        if text:
            entries.append(Entry(time, text, kind or missed))
        missed = "" if text else kind
        wait, text, kind = next(running[number])
        heapq.heapreplace(waiting, (time + wait, number, text, kind))
    return entries


# How many lines of the log there are to one of a process: an anomaly of it is so much likelier per line.
HEARTBEAT_SHARE, METRICS_SHARE, REQUEST_SHARE, SHOPPER_SHARE = 28, 42, 2.2, 2.3


def _heartbeat(draw: random.Random, chance: dict[str, float]) -> Lines:
    """Every 10 s, on the dot but for 50 ms; planted: one after 2 to 6 s, or one left out."""
    mine = {kind: HEARTBEAT_SHARE * chance[kind] for kind in ("early heartbeat", "missing heartbeat")}
    while True:
        kind, wait = _planted(draw, mine), 10 + draw.gauss(0, 0.05)
        if kind == "early heartbeat":
            wait = draw.uniform(2, 6)
        elif kind == "missing heartbeat":
            yield 10.25, "", kind
            kind, wait = "", wait - 0.25
        yield wait, "heartbeat ok", kind


def _metrics(draw: random.Random, chance: dict[str, float]) -> Lines:
    """Load that wanders slowly, every 15 s; planted: a value far from where it was."""
    cpu, memory = 35.0, 52.0
    while True:
        cpu = min(max(cpu + draw.gauss(0, 3), 10), 70)
        memory = min(max(memory + draw.gauss(0, 0.5), 40), 64)
        shown = {"cpu": round(cpu), "mem": round(memory)}
        kind = _planted(draw, {"strange value": METRICS_SHARE / 2 * chance["strange value"]})
        if kind:
            shown[draw.choice(("cpu", "mem"))] = draw.choice((0, 97, 99, 100))
        yield 15 + draw.gauss(0, 0.02), f"metrics cpu={shown['cpu']}% mem={shown['mem']}%", kind


def _cleanup(draw: random.Random) -> Lines:
    """A job once a minute, and its end after 1 to 2 s."""
    while True:
        took = draw.uniform(1, 2)
        yield 60 - 1.5, "job cleanup started", ""
        yield took, f"job cleanup done, {draw.randrange(2, 40)} removed", ""


def _requests(draw: random.Random, chance: dict[str, float]) -> Lines:
    """Requests, one a second; planted: rare messages, impossible fields, strange durations, bursts."""
    mine = {k: REQUEST_SHARE * chance[k] for k in ("rare message", "impossible fields")}
    mine["strange value"] = REQUEST_SHARE / 2 * chance["strange value"]
    mine["burst"] = REQUEST_SHARE / 6 * chance["burst"]
    while True:
        kind, wait, host = _planted(draw, mine), draw.expovariate(1.0), draw.choice(list(HOSTS))
        if kind == "rare message":
            n, m = draw.randrange(1, 5000), draw.randrange(1, 5000)
            yield wait, draw.choice(RARE).format(host=host, n=n, m=m), kind
        elif kind == "burst":  # the first of its lines is as any other
            text = _request(draw, host, "")
            yield wait, text, ""
            for _ in range(draw.randrange(4, 9)):
                yield draw.uniform(0.002, 0.02), _request(draw, host, ""), kind
        else:
            yield wait, _request(draw, host, kind), kind


def _request(draw: random.Random, host: str, kind: str) -> str:
    (path,) = draw.choices(list(ENDPOINTS), ENDPOINT_WEIGHTS)
    methods, median = ENDPOINTS[path]
    method, region = draw.choice(methods), HOSTS[host]
    (status,) = draw.choices(STATUS[method], STATUS_WEIGHTS[method])
    taken = median * math.exp(draw.gauss(0, 0.3))
    if kind == "impossible fields":
        wrong = draw.choice(("method", "region", "status"))
        if wrong == "method":
            method = draw.choice([one for one in STATUS if one not in methods])
        elif wrong == "region":
            region = {"eu": "us", "us": "eu"}[region]
        else:
            status = draw.choice([one for other in STATUS if other != method for one in STATUS[other]])
    elif kind == "strange value":
        taken *= draw.uniform(20, 80)
    path = path.format(id=draw.randrange(100, 1000))
    return f"{host} {method} {path} {status} {max(1, round(taken))}ms region={region}"


STEPS = ("login", "view", "add", "checkout", "paid", "logout")


def _shopper(draw: random.Random, chance: dict[str, float]) -> Lines:
    """Sessions one after the other: login, views and items added, checkout, paid, logout; planted: a step of
    the same session that cannot come now."""
    chance = {"wrong order": SHOPPER_SHARE * chance["wrong order"]}
    while True:
        session, user, wait = f"s{draw.randrange(1000):03}", draw.choice(USERS), draw.expovariate(1 / 5)
        for step in _steps(draw):
            if kind := _planted(draw, chance):
                yield draw.expovariate(1 / 2), _say(draw, session, user, draw.choice(IMPOSSIBLE[step])), kind
            yield wait, _say(draw, session, user, step), ""
            wait = draw.expovariate(1 / 2)


IMPOSSIBLE = {
    # before a step of a session: what neither it nor anything else of the kind can be
    "login": ("paid", "logout", "checkout"),
    "view": ("paid", "login"),
    "add": ("paid", "login"),
    "checkout": ("paid", "login"),
    "paid": ("login", "add", "view"),
    "logout": ("login", "checkout", "add"),
}


def _steps(draw: random.Random) -> list[str]:
    shopping = [
        step for _ in range(draw.randrange(1, 4)) for step in ("view", "view", "add")[draw.randrange(2) :]
    ]
    return ["login", *shopping, "checkout", "paid", "logout"]


def _say(draw: random.Random, session: str, user: str, step: str) -> str:
    more = {
        "login": f" user={user}",
        "view": f" item={draw.randrange(100, 1000)}",
        "add": f" item={draw.randrange(100, 1000)} n={draw.randrange(1, 4)}",
        "checkout": f" total={draw.randrange(5, 200)}.{draw.randrange(100):02}",
        "paid": f" card={draw.choice(('visa', 'amex'))}",
        "logout": "",
    }[step]
    return f"session {session} {step}{more}"


def _planted(draw: random.Random, chance: dict[str, float]) -> str:
    """One of the kinds with its chance, or ""."""
    at = draw.random()
    for kind, share in chance.items():
        if at < share:
            return kind
        at -= share
    return ""

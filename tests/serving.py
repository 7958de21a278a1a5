"""Servers of small random models, in a thread of the tests, and bare requests to them."""

import http.client
import json
import threading
import time
from contextlib import contextmanager
from typing import Any

import torch
from helpers import randomise

from liquidlm import LEDTokenizerWrapper, LiquidConfig, LiquidTextGenerationModel
from liquidlm.serve.app import create_app
from liquidlm.serve.limits import Limits
from liquidlm.serve.listening import listen
from liquidlm.serve.model_source import model_sources
from liquidlm.serve.models import Models
from liquidlm.serve.server import Server

TOKENIZER = LEDTokenizerWrapper.bytes()
NAME = "tiny"


def tiny(**options) -> LiquidTextGenerationModel:
    torch.manual_seed(0)
    sizes = {"embedding_dim": 8, "latent_dim": 4, "hidden_size": 16, "num_hidden_layers": 2, "ngram_rows": 40}
    config = LiquidConfig(vocab_size=TOKENIZER.vocab_size, **(sizes | options))
    model = randomise(LiquidTextGenerationModel(config), scale=0.1).eval()
    with torch.no_grad():  # its logit is the mean of all: never the largest
        model.output_proj.weight[TOKENIZER.eos_token_id] = model.output_proj.weight.mean(0)
    return model


@contextmanager
def served(
    model=None,
    api_key=None,
    hosts=("*",),
    connection=None,
    states=None,
    tokenizer=TOKENIZER,
    app=None,
    **limits,
):
    """The port of a server in a thread, of one model or of several by their names; `connection` are limits
    of its connections, `app` more options of the application."""
    given = Limits(**({"shutdown_seconds": 0.0} | limits))
    every = model if isinstance(model, dict) else {NAME: model or tiny()}
    sources = model_sources([*every], [*every], given, states=states)
    loaded = [source.serving(one, tokenizer) for source, one in zip(sources, every.values(), strict=True)]
    models = Models(loaded, given)
    made = create_app(models, api_key=api_key, hosts=hosts, **(app or {}))
    server = Server(made, **(connection or {}))
    sockets = listen("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, args=(sockets,))
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


def ask(port: int, path: str, body=None, headers=None, method=None) -> tuple[int, Any]:
    """(status, answer) of a bare request; a body that is not bytes is sent as JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    raw = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    given = {"content-type": "application/json", **(headers or {})}
    connection.request(method or ("GET" if body is None else "POST"), path, raw, given)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, json.loads(text) if text.startswith("{") else text


def load(port: int) -> dict:
    return ask(port, "/health")[1]


def idle(port: int) -> bool:
    """Whether nothing is written or waits, soon."""
    for _ in range(500):
        if load(port)["running"] == load(port)["waiting"] == 0:
            return True
        time.sleep(0.02)
    return False

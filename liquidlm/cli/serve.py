"""`liquidlm serve`: a model behind an HTTP API and a page."""

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import LiquidError, install
from ..inference.defaults import WEIGHTS
from ..inference.model_folders import check_model, is_on_hub
from ..pretrained import STORIES
from ..runtime.files import probe
from ..serve.listening import check_free, check_origin
from ..serve.model_names import model_names
from .api_key import KEY_VARIABLE, read_key
from .arguments import FOLDER_HELP, Weights
from .model_imports import import_models

Folders = Annotated[
    list[str] | None, typer.Argument(metavar="[DIR]...", help=f"{FOLDER_HELP} Default: stories.")
]
Host = Annotated[str, typer.Option(help="Address to listen on. The default accepts this machine only.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free port.")]
Name = Annotated[
    list[str] | None,
    typer.Option(
        help="Name of the model in requests, once for each model. [default: the folder's name]",
        show_default=False,
    ),
]
ApiKey = Annotated[
    str | None,
    typer.Option(envvar=KEY_VARIABLE, help="Require this bearer token.", show_envvar=True),
]
ApiKeyFile = Annotated[Path | None, typer.Option(help="Read the bearer token from the first line of a file.")]
AllowHost = Annotated[
    list[str] | None,
    typer.Option(help="Another host name that clients use for the server, such as that of a proxy."),
]
Cors = Annotated[
    list[str] | None,
    typer.Option(metavar="ORIGIN", help="Let web pages of this origin use the server. *: all web pages."),
]
AccessLog = Annotated[
    str | None, typer.Option(metavar="FILE", help="Write a line about each request. -: to standard error.")
]
Rows = Annotated[int, typer.Option(help="Number of texts written at the same time.")]
Waiting = Annotated[int, typer.Option(help="Number of texts that can wait. Further requests are refused.")]
Seconds = Annotated[float, typer.Option(help="Time limit for a text in seconds, including the wait.")]
PromptTokens = Annotated[int, typer.Option(help="Maximum length of a prompt, in tokens.")]
NewTokens = Annotated[int, typer.Option(help="Maximum length of a written text, in tokens.")]
States = Annotated[Path | None, typer.Option(help="Folder for states that clients keep by name.")]
StatesMb = Annotated[int, typer.Option(help="Memory or disk for states that clients keep, in MiB.")]
CacheMb = Annotated[int, typer.Option(help="Memory for the states of earlier prompts, in MiB.")]


def serve(
    context: typer.Context,
    folders: Folders = None,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    name: Name = None,
    api_key: ApiKey = None,
    api_key_file: ApiKeyFile = None,
    allow_host: AllowHost = None,
    cors: Cors = None,
    access_log: AccessLog = None,
    rows: Rows = 32,
    waiting: Waiting = 256,
    seconds: Seconds = 600.0,
    prompt_tokens: PromptTokens = 1 << 20,
    new_tokens: NewTokens = 1 << 16,
    cache_mb: CacheMb = 256,
    states: States = None,
    states_mb: StatesMb = 256,
    weights: Weights = WEIGHTS,
) -> None:
    """Serve models over HTTP, with an OpenAI-like API and a web page.

    The API is at /v1/completions, /v1/chat/completions, /v1/models and /health. The page is at /. The server
    writes many texts at the same time. If a prompt starts like an earlier one, that part is not read again.
    SIGHUP reads the models again.

        liquidlm serve runs/novel --port 8000
    """
    _check(context.params)
    key = read_key(context, api_key, api_key_file)
    import_models()
    try:
        from ..serve.limits import Limits
        from ..serve.model_source import model_sources
        from ..serve.server import serve as run
    except ImportError as error:
        raise LiquidError(f"serving needs more packages ({error}); {install('serve')}") from error
    limits = Limits(
        prompt_tokens=prompt_tokens,
        new_tokens=new_tokens,
        rows=rows,
        waiting=waiting,
        seconds=seconds,
        cache_bytes=cache_mb << 20,
        states_bytes=states_mb << 20,
    )
    sources = model_sources(folders or [STORIES], name or [], limits, weights, states)
    run(
        sources,
        limits,
        host=host,
        port=port,
        api_key=key,
        allow_hosts=allow_host or (),
        origins=cors or (),
        access_log=access_log,
    )


def _check(given: dict[str, Any]) -> None:
    """LiquidError for an option that is out of its range, a model that is not there, or a port in use."""
    for option in ("rows", "seconds", "prompt_tokens", "new_tokens"):
        if not 0 < given[option] < math.inf:
            raise LiquidError(f"--{option.replace('_', '-')} must be greater than 0, not {given[option]}")
    if not all(one.strip() and one.isprintable() for one in given["name"] or ()):
        raise LiquidError("--name must have letters, and no line breaks")
    if given["waiting"] < 1 or min(given["cache_mb"], given["states_mb"]) < 0:
        raise LiquidError("--waiting must be at least 1, --cache-mb and --states-mb at least 0")
    folders = given["folders"] or [STORIES]
    model_names(folders, given["name"] or [], given["states"])
    for folder in folders:
        if not is_on_hub(folder):
            check_model(folder)
    for origin in given["cors"] or ():
        check_origin(origin)
    if given["access_log"] not in (None, "-"):
        probe(given["access_log"])
    check_free(given["host"], given["port"])

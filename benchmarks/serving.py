"""The server: tokens per second and latency by texts at a time, cached prompts, memory.

    python -m benchmarks.run serving [--folder stories] [--requests 2000] [--llama-server PATH]

A server in a process of its own, its clients in this one, on the same cores, over HTTP. First, as a check,
the text of a whole, a streamed and a concurrent request must be the same. Then so many streams at a time for
some rounds, the numbers in turn; the first token of a prompt of 16,384 tokens, cold, again, and with another
end, and from a state kept by name; the latency of a reused connection, eight texts of one prompt, and 1,100
idle connections. Then the memory of a server with 16 MB for prompts, before and after many short requests,
and while eight bodies of 16 MiB come at once. With the path of llama.cpp's server, the same streams by a
Llama of about as many parameters with random weights, in float32, 32 slots: more streams wait for a slot, as
they wait for a row of ours.
"""

import argparse
import json
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil

from benchmarks.llama_server import llama_server
from benchmarks.machine import write_results
from benchmarks.plots import redraw
from benchmarks.service import ask, server
from benchmarks.service_load import choices, idle_sockets, large_bodies, named_state, reused_connection
from liquidlm.inference.model_folders import find_folder
from liquidlm.text.tokenizer import LEDTokenizerWrapper

NAME = "serving"
STREAMS = (1, 8, 32, 128)
TOKENS = 128
PROMPT = 16_384


def check(port: int) -> None:
    """The same text whole, streamed, and among others."""
    asked = [{"prompt": "Once upon a time", "seed": i, "max_tokens": 40} for i in range(16)]
    alone = [ask(port, **one, stream=False)[0] for one in asked]
    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(lambda one: ask(port, **one)[0], asked))
    if alone != together or len(set(alone)) < 8:
        raise SystemExit("texts written together are not those written alone")


def concurrent(port: int, streams: int, seed: int) -> dict[str, float]:
    """Each of so many clients asks three times, one after the other; no text ends by itself before."""

    def client(number: int) -> list[tuple[int, float, float]]:
        found = []
        for i in range(3):
            prompt = f"Once upon a time there was a boy called Tom{number}."
            _, usage, (first, last) = ask(
                port,
                prompt=prompt,
                seed=seed + 100 * number + i,
                max_tokens=TOKENS,
                temperature=0.8,
                ignore_eos=True,
            )
            found.append((usage["completion_tokens"], first, last))
        return found

    begin = time.perf_counter()
    with ThreadPoolExecutor(streams) as pool:
        found = [one for own in pool.map(client, range(streams)) for one in own]
    seconds = time.perf_counter() - begin
    latencies = sorted(last for _, _, last in found)
    return {
        "tokens_per_second": sum(tokens for tokens, _, _ in found) / seconds,
        "requests_per_second": len(found) / seconds,
        "latency_median": statistics.median(latencies),
        "latency_p99": latencies[min(len(latencies) - 1, int(0.99 * len(latencies)))],
        "first_token_median": statistics.median(first for _, first, _ in found),
    }


def streams(port: int, rounds: int) -> dict[str, Any]:
    """Medians over rounds by streams at a time, and their speed over that of one."""
    found = [{n: concurrent(port, n, 1000 * i) for n in STREAMS} for i in range(rounds)]
    return {
        "streams": {
            str(n): {key: statistics.median(one[n][key] for one in found) for key in found[0][n]}
            for n in STREAMS
        },
        "over_one_at_a_time": {
            str(n): statistics.median(
                one[n]["tokens_per_second"] / one[1]["tokens_per_second"] for one in found
            )
            for n in STREAMS
        },
    }


def prefixes(port: int, ids: list[int], rounds: int) -> dict[str, float]:
    """Seconds to the first token: cold, the same prompt again, and with another end."""
    found: dict[str, list[float]] = {"cold": [], "again": [], "another_end": []}
    for number in range(rounds):
        prompt = [ids[number], *ids[: PROMPT - 2]]  # `<s>` comes before it
        for name, given, cached in (
            ("cold", prompt, 0),
            ("again", prompt, PROMPT),
            ("another_end", [*prompt, *ids[number : number + 20]], PROMPT),
        ):
            _, usage, (first, _) = ask(port, prompt=given, max_tokens=2, seed=0)
            if usage["prompt_tokens_details"]["cached_tokens"] != cached:
                raise SystemExit(f"{name}: {usage}, where {cached:,} tokens should have been cached")
            found[name].append(first)
    return {name: statistics.median(values) for name, values in found.items()}


def memory(port: int, process: psutil.Process, requests: int) -> list[list[float]]:
    """[[requests so far, resident MB]]: short ones, eight at a time, every prompt another."""
    found = []

    def one(i: int) -> None:
        ask(
            port, prompt=f"{i} times upon a time " + "x " * (i % 200), max_tokens=8, seed=i, stream=i % 2 == 0
        )

    with ThreadPoolExecutor(8) as pool:
        for done in range(0, requests + 1, max(1, requests // 20)):
            found.append([done, process.memory_info().rss / 1e6])
            list(pool.map(one, range(done, done + max(1, requests // 20))))
    return found


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog=NAME, description=__doc__)
    parser.add_argument("--folder", default="stories")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--llama-server", type=Path, help="llama.cpp's server, built from its sources")
    given = parser.parse_args(argv)
    tokenizer = LEDTokenizerWrapper(find_folder(given.folder))
    ids = tokenizer.encode("There was a dog, and a cat, and the sun came out over the hill. " * 2000).tolist()
    figures: dict[str, Any] = {}
    if given.llama_server:  # first: where it does not start, nothing else is lost
        with llama_server(given.llama_server, given.folder) as (port, parameters):
            figures["llama_cpp"] = {"parameters": parameters, **streams(port, given.rounds)}
    with server(given.folder) as (port, _):
        check(port)
        figures |= streams(port, given.rounds)
        figures["first_token_of_16k_prompt"] = prefixes(port, ids, given.rounds)
        figures["first_token_of_16k_prompt"]["named_state"] = named_state(port, ids[: PROMPT - 1])
        figures["reused_connection_seconds"] = reused_connection(port)
        figures["n_seconds"] = choices(port, ids)
        figures["idle_sockets"] = idle_sockets(port)
    with server(given.folder, "--cache-mb", "16") as (port, process):
        figures["memory_mb"] = memory(port, process, given.requests)
        figures["large_bodies"] = large_bodies(port, process)
    write_results(NAME, figures)
    redraw(NAME)
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()

"""Transcripts of space flights: what is said, and when.

    python -m benchmarks.apollo [--steps 6000] [--seeds 1] [--workers 2]

Ours with the times of the utterances, and a twin that is given none, are trained on seven missions and
judged on two others: bits per byte, and nats per gap between utterances (−ln of the probability of the second
that was recorded; for ours those of the gaps of 0 within an utterance are added). The same weights are judged
with the gaps shuffled, all alike, with noise, and with half of the utterances left out. Beside them, for the
gaps alone: one log-normal fitted to the training gaps, and a GRU over gaps, speakers and lengths of the
utterances (as RMTPP, Du et al. 2016, with our mixture at its end). Results already in results/apollo.json are
kept.
"""

import argparse
import itertools
import math
import statistics
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.plots import redraw
from benchmarks.pool import report, run_pool
from benchmarks.texts import FOLDER
from examples.apollo import utterances
from liquidlm import LiquidConfig, LiquidTextGenerationModel
from liquidlm.inference.evaluate import evaluate
from liquidlm.nn.time_head import GapDistribution, TimeHead
from liquidlm.runtime.precision import autocast
from liquidlm.text.batches import StreamBatches
from liquidlm.text.corpus import Document
from liquidlm.text.event_files import TextEvent
from liquidlm.text.token_corpus import TokenCorpus
from liquidlm.text.tokenization import tokenize_documents
from liquidlm.text.tokenizer import LEDTokenizerWrapper
from liquidlm.text.weighting import WeightedCorpus, cut_into_spans
from liquidlm.training.clock import COMPONENTS, clock
from liquidlm.training.optim import clip_gradients, liquid_optimisers

NAME = "apollo"
SIZES: dict[str, Any] = {"hidden_size": 128, "embedding_dim": 128, "latent_dim": 64, "num_hidden_layers": 3}
SECOND = 1.0
"""The steps in which the transcripts tell the time."""
ROWS, LENGTH, SPAN = 8, 256, 16384
JITTER = 0.2
"""Standard deviation of the noise on ln gap."""
SPEAKERS = 64
Mission = list[TextEvent]


def missions(part: str) -> list[Mission]:
    return [
        [
            TextEvent(float(said["time"]), str(said["text"]))
            for said in utterances(iter(file.read_text(encoding="utf-8").splitlines()))
        ]
        for file in sorted((FOLDER / "apollo" / part).glob("*.txt"))
    ]


# ---- the same missions with other clocks


def regapped(mission: Mission, change: Callable[[np.ndarray], np.ndarray]) -> Mission:
    """With the gaps that `change` makes of the true ones."""
    times = np.array([event.time for event in mission])
    moved = times[0] + np.concatenate([[0.0], change(np.diff(times)).cumsum()])
    return [event._replace(time=time) for event, time in zip(mission, moved.tolist(), strict=True)]


def shuffled(mission: Mission) -> Mission:
    return regapped(mission, np.random.default_rng(0).permutation)


def alike(mission: Mission) -> Mission:
    return regapped(mission, lambda gaps: np.full_like(gaps, gaps.mean()))


def jittered(mission: Mission) -> Mission:
    noise = np.random.default_rng(0)
    return regapped(mission, lambda gaps: gaps * np.exp(JITTER * noise.standard_normal(gaps.size)))


def halved(mission: Mission) -> Mission:
    kept = np.random.default_rng(0).random(len(mission)) < 0.5
    return [event for event, keep in zip(mission, kept.tolist(), strict=True) if keep]


CLOCKS: dict[str, Callable[[Mission], Mission]] = {
    "real": list,
    "shuffled": shuffled,
    "alike": alike,
    "jittered": jittered,
    "half of the utterances": halved,
}


def corpus(flights: list[Mission], tokenizer: LEDTokenizerWrapper, timed: bool) -> TokenCorpus:
    documents = []
    for mission in flights:
        texts = [event.text if i == 0 else f"\n{event.text}" for i, event in enumerate(mission)]
        begins = np.cumsum([0, *map(len, texts)]).tolist()
        marks = tuple((at, event.time) for at, event in zip(begins, mission, strict=False))
        documents.append(Document("".join(texts), "mission", marks=marks if timed else ()))
    return tokenize_documents(documents, tokenizer)


# ---- text and times


def train_text(
    flights: list[Mission], timed: bool, steps: int, seed: int
) -> tuple[LiquidTextGenerationModel, LEDTokenizerWrapper]:
    """Ours, or its twin without times."""
    torch.manual_seed(seed)
    tokenizer = LEDTokenizerWrapper.bytes()
    train = corpus(flights, tokenizer, timed)
    sizes: dict[str, Any] = {**SIZES, **clock(train)} if timed else SIZES
    config = LiquidConfig(vocab_size=tokenizer.vocab_size, dropout_rate=0.0, **sizes)
    model = LiquidTextGenerationModel(config).train()
    spans, document = cut_into_spans(train, SPAN)
    mixed = WeightedCorpus(spans, [1.0] * len(document), seed)
    optimisers, batches = liquid_optimisers(model), StreamBatches(mixed, ROWS, LENGTH, seed)
    state = model.new_state()
    for step in range(steps):
        batch = batches.next_batch()
        with autocast(model.device, True):
            output = model(
                batch.input_ids,
                timestamps=batch.times,
                shift_timestamps=batch.next_times,
                starts=batch.starts,
                shift_labels=batch.targets,
                past_key_values=state.detach_(),
                use_cache=True,
            )
        output.loss.backward()
        clip_gradients(model.parameters())
        optimisers.step(step, step / steps)
        if step % 100 == 99:
            when = 0.0 if output.time_loss is None else output.time_loss.item()
            print(f"{timed} {step + 1}: {output.loss.item():.3f}, when {when:.3f}", file=sys.stderr)
    return model, tokenizer


def judged_text(
    model: LiquidTextGenerationModel, tokenizer: LEDTokenizerWrapper, flights: list[Mission], timed: bool
) -> dict[str, float]:
    """Bits per byte of what is said, and nats per gap where the model has times."""
    corpus_of_flights = corpus(flights, tokenizer, timed)
    result = evaluate(model, corpus_of_flights, eos_token_id=tokenizer.eos_token_id, bf16=True)
    figures = {"bits_per_byte": result.bits_per_byte}
    if result.time_nats is not None:
        figures["nats_per_gap"] = result.time_nats / sum(len(flight) - 1 for flight in flights)
    return figures


def learn_text(timed: bool, steps: int, seed: int) -> dict[str, Any]:
    """Ours, or its twin without times: figures of missions held out, by clock."""
    model, tokenizer = train_text(missions("train"), timed, steps, seed)
    assert not timed or model.config.time_resolution == SECOND
    found: dict[str, Any] = {"parameters": sum(p.numel() for p in model.parameters())}
    for name, change in CLOCKS.items():
        flights = [change(mission) for mission in missions("valid")]
        found[name] = judged_text(model, tokenizer, flights, timed)
    return found


# ---- times alone


def gaps_of(mission: Mission) -> Tensor:
    return torch.tensor([b.time - a.time for a, b in itertools.pairwise(mission)])


def renewal() -> dict[str, Any]:
    """One log-normal, and a chance of 0, the likeliest for all training gaps."""
    gaps, held = (
        torch.cat([gaps_of(mission) for mission in missions(part)]).double() for part in ("train", "valid")
    )
    some = gaps[gaps > 0].log()
    fitted = torch.stack([torch.zeros(()), some.mean(), some.std().log()]).requires_grad_()
    optimiser = torch.optim.LBFGS([fitted], max_iter=200, line_search_fn="strong_wolfe")

    def nats(of: Tensor) -> Tensor:
        zero, mean, deviation = fitted
        one = GapDistribution(zero, fitted.new_zeros(1), mean[None], deviation.exp()[None], SECOND)
        return -one.log_prob(of).mean()

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = nats(gaps)
        loss.backward()
        return loss

    optimiser.step(closure)  # pyright: ignore[reportArgumentType]
    return {"real": {"nats_per_gap": nats(held).item()}}


class GapGRU(nn.Module):
    """(gap before, length and speaker of an utterance)… ▶ distribution of the next gap."""

    def __init__(self, scale: float, width: int = 64):
        super().__init__()
        self.scale = scale
        self.speaker = nn.Embedding(SPEAKERS, 16)
        self.gru = nn.GRU(18, width, batch_first=True)
        self.head = TimeHead(width, 1, COMPONENTS, SECOND / scale)

    def nats(self, numbers: Tensor, speakers: Tensor, gaps: Tensor) -> Tensor:
        h, _ = self.gru(torch.cat([numbers, self.speaker(speakers)], -1)[None])
        some = (gaps > 0).sum() * math.log(self.scale)  # per second
        distribution = self.head(h[0], torch.zeros(len(gaps), dtype=torch.long))
        return -distribution.log_prob(gaps / self.scale).sum() + some


def learn_gaps(lr: float, epochs: int, seed: int) -> dict[str, Any]:
    """The GRU, best of its epochs on the last tenth of every training mission."""
    torch.manual_seed(seed)
    flights = {part: missions(part) for part in ("train", "valid")}
    names = [event.text.split(":")[0] for mission in flights["train"] for event in mission]
    known = [name for name, _ in sorted(((n, -names.count(n)) for n in set(names)), key=lambda x: x[1])]
    number = {name: i + 1 for i, name in enumerate(known[: SPEAKERS - 1])}
    scale = torch.cat([gaps_of(mission) for mission in flights["train"]]).median().item()

    def features(mission: Mission) -> tuple[Tensor, Tensor, Tensor]:
        gaps = gaps_of(mission).float()
        before = torch.cat([gaps.new_zeros(1), gaps[:-1]])
        lengths = torch.tensor([float(len(event.text)) for event in mission[:-1]])
        speakers = torch.tensor([number.get(event.text.split(":")[0], 0) for event in mission[:-1]])
        return torch.stack([(before / scale).log1p(), lengths.log1p()], -1), speakers, gaps

    def cut(parts: tuple[Tensor, ...], first: bool) -> tuple[Tensor, ...]:
        at = int(0.9 * len(parts[0]))
        return tuple(part[:at] if first else part[at:] for part in parts)

    train = [features(mission) for mission in flights["train"]]
    model = GapGRU(scale)
    optimiser = torch.optim.AdamW(model.parameters(), lr)
    best, result = math.inf, {}

    @torch.no_grad()
    def judge(parts: list[tuple[Tensor, ...]]) -> float:
        return sum(model.nats(*part).item() for part in parts) / sum(len(gaps) for _, _, gaps in parts)

    for epoch in range(epochs):
        for mission in train:
            for numbers, speakers, gaps in zip(
                *(part.split(256) for part in cut(mission, True)), strict=True
            ):
                loss = model.nats(numbers, speakers, gaps) / len(gaps)
                optimiser.zero_grad()
                loss.backward()
                clip_gradients(model.parameters())
                optimiser.step()
        score = judge([cut(mission, False) for mission in train])
        if score < best:
            best = score
            result = {
                name: {"nats_per_gap": judge([features(change(m)) for m in flights["valid"]])}
                for name, change in CLOCKS.items()
            }
            result |= {"epoch": epoch + 1, "choosing": best}
    return result


def work(job: dict[str, Any]) -> dict[str, Any]:
    kind = job["kind"]
    if kind == "renewal":
        return renewal()
    if kind == "gru":
        return learn_gaps(job["lr"], job["epochs"], job["seed"])
    return learn_text(job["timed"], job["steps"], job["seed"])


def table(found: dict[str, dict[str, Any]]) -> str:
    lines = [f"{'':28}" + "".join(f"{name:>26}" for name in CLOCKS), "bits per byte | nats per gap"]
    for key, figures in found.items():
        cells = []
        for name in CLOCKS:
            here = figures.get(name, {})
            bits, nats = here.get("bits_per_byte"), here.get("nats_per_gap")
            cells.append(
                f"{'–' if bits is None else f'{bits:.4f}'} | {'–' if nats is None else f'{nats:.4f}'}"
            )
        lines.append(f"{key:28}" + "".join(f"{cell:>26}" for cell in cells))
    return "\n".join(lines)


def mean(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Of the figures of several seeds."""
    found: dict[str, Any] = {}
    for name in CLOCKS:
        for figure in runs[0].get(name, {}):
            value = statistics.mean(run[name][figure] for run in runs)
            found.setdefault(name, {})[figure] = value
    return found


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog=NAME, description=__doc__)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args(argv)
    kinds: dict[str, dict[str, Any]] = {"log-normal renewal": {"kind": "renewal"}}
    for lr in (0.0003, 0.001, 0.003):
        kinds[f"GRU {lr}"] = {"kind": "gru", "lr": lr, "epochs": given.epochs}
    for name, timed in (("ours", True), ("twin without times", False)):
        kinds[name] = {"kind": "text", "timed": timed, "steps": given.steps, "span": SPAN}
    jobs = {
        (name, seed): {**job, "resolution": SECOND, "seed": seed}
        for name, job in kinds.items()
        for seed in range(given.seeds)
    }
    keyed = {f"{name} {sorted(job.items())}": job for (name, _), job in jobs.items()}
    results = dict(zip(jobs, run_pool(NAME, "benchmarks.apollo", keyed, given.workers).values(), strict=True))
    found = {name: [results[name, seed] for seed in range(given.seeds)] for name in kinds}
    grus = [name for name in found if name.startswith("GRU")]
    best = min(grus, key=lambda name: statistics.mean(run.get("choosing", math.inf) for run in found[name]))
    shown = {name: mean(runs) for name, runs in found.items() if name not in grus or name == best}
    print(table(shown))
    redraw(NAME)


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1].startswith("{"):
        report(work)
    else:
        main()

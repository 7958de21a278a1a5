"""tinyshakespeare as nanoGPT trains and evaluates it, and ours beside.

    python -m benchmarks.nanogpt [--minutes 10] [--seed 1337]

nanoGPT (github.com/karpathy/nanoGPT) has a recipe for a CPU: 4 layers of width 128, blocks of 64 characters,
12 of them in a step, 2,000 steps of AdamW. We run this recipe with the GPT-2 of transformers, in float32.
Every 250 steps the validation text is evaluated, and the best checkpoint counts. Ours is trained with
`recipes/tinyshakespeare.toml` for as many seconds as the recipe took, and for --minutes; its last checkpoint
counts. Both are evaluated on all blocks of the last tenth of the text, each read from nothing: nats per
character. Ours is also evaluated with its state carried. Results go to results/nanogpt.json.
"""

import argparse
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from benchmarks.machine import add_results, machine
from benchmarks.texts import FOLDER
from liquidlm.inference.saving import load_model
from liquidlm.model.pretrained import LiquidTextGenerationModel
from liquidlm.text.tokenizer import LEDTokenizerWrapper
from liquidlm.training.optim import clip_gradients

NAME = "nanogpt"
RECIPE = Path(__file__).parents[1] / "recipes" / "tinyshakespeare.toml"
LAYERS, HEADS, WIDTH, BLOCK, BATCH, STEPS, EVERY = 4, 4, 128, 64, 12, 2000, 250
RATE, LAST_RATE, WARM_UP, BETAS, DECAY = 1e-3, 1e-4, 100, (0.9, 0.99), 0.1
Logits = Callable[[Int[Tensor, "b t"]], Float[Tensor, "b t v"]]


def text() -> tuple[str, str]:
    """The first nine tenths, and the last."""
    whole = (FOLDER / "tinyshakespeare" / "input.txt").read_text(encoding="utf-8")
    at = int(0.9 * len(whole))
    return whole[:at], whole[at:]


@torch.no_grad()
def nats(logits: Logits, ids: Int[Tensor, " n"], block: int) -> float:
    """Mean −ln p of the characters of all whole blocks, each read from nothing."""
    count = (len(ids) - 1) // block
    inputs, targets = (ids[i : i + count * block].view(count, block) for i in (0, 1))
    total = 0.0
    for x, y in zip(inputs.split(64), targets.split(64), strict=True):
        total += F.cross_entropy(logits(x).flatten(0, 1).float(), y.flatten(), reduction="sum").item()
    return total / inputs.numel()


def rate(step: int) -> float:
    if step < WARM_UP:
        return RATE * (step + 1) / (WARM_UP + 1)
    done = (step - WARM_UP) / (STEPS - WARM_UP)
    return LAST_RATE + 0.5 * (1 + math.cos(math.pi * done)) * (RATE - LAST_RATE)


def learn_gpt(seed: int) -> dict[str, float]:
    """nanoGPT's recipe for a CPU: seconds of training, parameters, and its best checkpoint's loss."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(seed)
    parts = text()
    letters = sorted(set("".join(parts)))
    number = {letter: i for i, letter in enumerate(letters)}
    train, valid = (torch.tensor([number[letter] for letter in part]) for part in parts)
    config = GPT2Config(
        vocab_size=len(letters),
        n_layer=LAYERS,
        n_head=HEADS,
        n_embd=WIDTH,
        n_positions=BLOCK,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        use_cache=False,
    )
    model = GPT2LMHeadModel(config)
    groups = [
        {"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": DECAY},
        {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, RATE, BETAS)
    best, seconds = math.inf, 0.0
    for step in range(STEPS):
        begin = time.perf_counter()
        at = torch.randint(len(train) - BLOCK, (BATCH, 1)) + torch.arange(BLOCK)
        for group in optimiser.param_groups:
            group["lr"] = rate(step)
        loss = F.cross_entropy(model(train[at]).logits.flatten(0, 1), train[at + 1].flatten())
        optimiser.zero_grad()
        loss.backward()
        clip_gradients(model.parameters())
        optimiser.step()
        seconds += time.perf_counter() - begin
        if step % EVERY == EVERY - 1:
            best = min(best, nats(lambda ids: model.eval()(ids).logits, valid, BLOCK))
            model.train()
            print(f"GPT {step + 1}: best {best:.4f} nats, {seconds:.0f} s", file=sys.stderr, flush=True)
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": seconds,
        f"blocks of {BLOCK}": best,
    }


def learn_ours(seconds: float, seed: int) -> dict[str, float]:
    """Our recipe for so many seconds: its loss in blocks, and with its state carried."""
    with tempfile.TemporaryDirectory() as place:
        files = [Path(place, name) for name in ("train.txt", "valid.txt")]
        for file, part in zip(files, text(), strict=True):
            file.write_text(part, encoding="utf-8")
        words = [str(files[0]), "--valid", str(files[1]), "--config", str(RECIPE), "--seed", str(seed)]
        words += ["--minutes", str(seconds / 60), "--out", str(Path(place, "run"))]
        command = [sys.executable, "-m", "liquidlm", "train", *words]
        subprocess.run(command, check=True, stdout=sys.stderr)
        model, tokenizer = load_model(Path(place, "run"))
    return {"parameters": sum(p.numel() for p in model.parameters()), "seconds": seconds} | ours(
        model, tokenizer
    )


@torch.no_grad()
def ours(model: LiquidTextGenerationModel, tokenizer: LEDTokenizerWrapper) -> dict[str, float]:
    ids = torch.from_numpy(tokenizer.encode(text()[1])).long()
    found = {
        f"blocks of {block}": nats(lambda x: model(x, use_cache=False).logits, ids, block)
        for block in (BLOCK, 256)
    }
    state, total = None, 0.0
    for x, y in zip(ids[None, :-1].split(4096, 1), ids[1:].split(4096), strict=True):
        output = model(x, past_key_values=state, use_cache=True)
        state = output.past_key_values
        total += F.cross_entropy(output.logits[0].float(), y, reduction="sum").item()
    return found | {"state carried": total / (len(ids) - 1)}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog=NAME, description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1337)
    given = parser.parse_args(argv)
    gpt = learn_gpt(given.seed)
    found = {"nanoGPT's recipe for a CPU": gpt}
    for seconds in (gpt["seconds"], 60 * given.minutes):
        name = f"liquidlm, {seconds:.0f} s"
        found[name] = learn_ours(seconds, given.seed)
        print(name, found[name], file=sys.stderr, flush=True)
    here = machine()
    about = {"commit": here["commit"], "processor": here["processor"], "threads": torch.get_num_threads()}
    for name, figures in found.items():
        add_results(NAME, "nats per character", name, {**figures, **about, "seed": given.seed})
        print(f"{name:32}", ", ".join(f"{kind}: {value:,.4g}" for kind, value in figures.items()))


if __name__ == "__main__":
    main()

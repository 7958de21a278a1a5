"""CPU seconds of a training step by size and vocabulary, one thread: `python docs/figures/step_cost.py`.

The page "Sizes, time and quality" has these figures. CPU time, not the clock: other programs matter little.
"""

import itertools
import statistics
import time

import torch

from liquidlm import LEDTokenizerWrapper, LiquidTextGenerationModel
from liquidlm.runtime.precision import autocast, bf16_is_faster
from liquidlm.text.builtin import builtin_documents
from liquidlm.training.optim import clip_gradients, liquid_optimisers
from liquidlm.training.settings import SIZES

ROWS, LENGTH, STEPS = 8, 256, 6


def seconds_of_steps(model: LiquidTextGenerationModel, batches: torch.Tensor, steps: int) -> list[float]:
    """CPU seconds of each step: forward, backward, clipping, optimisers, the state carried."""
    bf16 = bf16_is_faster(model.device)
    optimisers, state, seconds = liquid_optimisers(model, bf16=bf16), model.new_state(), []
    for step, ids in zip(range(steps), itertools.cycle(batches), strict=False):
        begin = time.process_time()
        state.detach_()
        with autocast(model.device, bf16):
            loss = model(ids, labels=ids, past_key_values=state, use_cache=True).loss
        loss.backward()
        clip_gradients(model.parameters())
        optimisers.step(step, 0.1)
        seconds.append(time.process_time() - begin)
    return seconds


def main() -> None:
    """Print a line per size and vocabulary: the median without the first step."""
    torch.set_num_threads(1)
    text = "".join(document.text for document in builtin_documents())[:400_000]
    tokenizers = {"bytes": LEDTokenizerWrapper.bytes(), "bpe:4000": LEDTokenizerWrapper.train([text], 4000)}
    for name, tokenizer in tokenizers.items():
        ids = torch.tensor(tokenizer.encode(text)[: ROWS * LENGTH * 8].tolist()).view(-1, ROWS, LENGTH)
        for size, sizes in SIZES.items():
            torch.manual_seed(0)
            model = LiquidTextGenerationModel(vocab_size=tokenizer.vocab_size, **sizes).train()
            seconds = statistics.median(seconds_of_steps(model, ids, STEPS)[1:])
            parameters = sum(parameter.numel() for parameter in model.parameters())
            rate = ROWS * LENGTH / seconds
            print(f"{size}, {name}: {parameters:,} parameters, {seconds:.2f} s, {rate:,.0f} tokens/s")


if __name__ == "__main__":
    main()

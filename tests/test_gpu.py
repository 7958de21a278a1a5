"""The same model on a GPU, where there is one."""

import pytest
import torch
from helpers import error, event_times, randomise

from liquidlm import LiquidConfig, LiquidTextGenerationModel
from liquidlm.model.step import LiquidStep

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

SIZES = {"vocab_size": 261, "embedding_dim": 32, "latent_dim": 16, "hidden_size": 128, "dropout_rate": 0.0}


def build() -> LiquidTextGenerationModel:
    torch.manual_seed(0)
    return randomise(LiquidTextGenerationModel(LiquidConfig(**SIZES)), scale=0.05)


def found(model: LiquidTextGenerationModel, device: str, dtype: torch.dtype) -> list[torch.Tensor]:
    """Loss, logits, state and every gradient of one pass with irregular times and a second document."""
    model = model.to(device, dtype).eval()
    ids = torch.randint(5, 261, (3, 300), generator=torch.Generator().manual_seed(0)).to(device)
    starts = torch.zeros_like(ids, dtype=torch.bool)
    starts[1, 111] = True
    out = model(ids, labels=ids, timestamps=event_times(3, 300).to(device), starts=starts, use_cache=True)
    used = list(model.parameters())
    grads = torch.autograd.grad(out.loss, used, allow_unused=True)
    state = [part for each in out.state.states() for part in each if part is not None]
    return [x.detach().cpu() for x in (out.loss, out.logits, *state, *(g for g in grads if g is not None))]


def test_a_gpu_computes_what_a_cpu_does():
    cpu, gpu = (found(build(), device, torch.float64) for device in ("cpu", "cuda"))
    assert max(error(a, b) for a, b in zip(gpu, cpu, strict=True)) < 1e-9


def test_bfloat16_training_on_a_gpu_learns():
    model = build().cuda().train()
    ids = torch.randint(5, 261, (4, 512), device="cuda")
    adam, losses = torch.optim.AdamW(model.parameters(), lr=2e-3), []
    for _ in range(20):
        with torch.autocast("cuda", torch.bfloat16):
            loss = model(ids, labels=ids).loss
        loss.backward()
        adam.step()
        adam.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.5


def test_the_lean_step_on_a_gpu_is_the_model():
    model = build().cuda().double().eval()
    ids = torch.randint(5, 261, (2, 30), device="cuda")
    with torch.no_grad():
        state, whole = model(ids[:, :20]).state, model(ids).logits[:, 20:]
        step = LiquidStep(model)
        steps = torch.stack([step(token, state) for token in ids[:, 20:].unbind(1)], 1)
    assert error(steps.cpu(), whole.cpu()) < 1e-9

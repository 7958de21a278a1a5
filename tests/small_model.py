"""A small language model for tests, its tokens and its gradients."""

import torch
from helpers import randomise, state_error

from liquidlm.model.pretrained import LiquidTextGenerationModel

VOCAB = 64
SIZES = {"vocab_size": VOCAB, "embedding_dim": 12, "latent_dim": 8, "hidden_size": 16}
SMALL = {
    "flow_hidden_dim": 8,
    "num_flows": 2,
    "num_heads": 2,
    "chunk_size": 8,
    "ngram_rows": 40,
    "dropout_rate": 0.0,
}


def tiny(**options):
    """Four layers, of which the second has a memory; random parameters, float64."""
    torch.manual_seed(0)
    return randomise(LiquidTextGenerationModel(**(SIZES | SMALL | options))).double().eval()


def tokens(batch=2, length=40, seed=0, low=0, high=VOCAB):
    return torch.randint(low, high, (batch, length), generator=torch.Generator().manual_seed(seed))


def parameter_gradients(model, loss):
    """Of every parameter, as one vector."""
    found = torch.autograd.grad(loss, list(model.parameters()), materialize_grads=True)
    return torch.cat([gradient.flatten() for gradient in found])


def states_error(a, b):
    return max(state_error(p, q) for p, q in zip(a.states(), b.states(), strict=True))

"""Weights that accelerate keeps on a disk or in other memory than where they compute."""

import copy

import pytest
import torch
from helpers import error, randomise

from liquidlm.inference.generate import read
from liquidlm.model.config import LiquidConfig
from liquidlm.model.pretrained import LiquidTextGenerationModel
from liquidlm.model.step import LiquidStep

accelerate = pytest.importorskip("accelerate", reason="the extra 'dev' is not installed")
pytestmark = [
    pytest.mark.filterwarnings("ignore:Attempting to save a model with offloaded modules"),
    pytest.mark.usefixtures("as_users_run"),  # accelerate makes a model's output again, from a dict
]

SIZES = {"vocab_size": 64, "embedding_dim": 16, "latent_dim": 8, "hidden_size": 16, "num_hidden_layers": 3}
SMALL = {"flow_hidden_dim": 8, "num_flows": 3, "num_heads": 2, "ngram_rows": 40, "eos_token_id": None}
OTHERS = {
    "mixer_types": ["nonlinear", "memory", "time"],
    "tie_word_embeddings": True,
    "time_components": 2,
}


def small(**options):
    torch.manual_seed(0)
    return randomise(LiquidTextGenerationModel(LiquidConfig(**SIZES, **SMALL, **options)), scale=0.1).eval()


def on_disk(model, folder):
    return accelerate.disk_offload(copy.deepcopy(model), folder / "away", execution_device="cpu")


def in_memory(model, folder):
    return accelerate.cpu_offload(copy.deepcopy(model), execution_device="cpu")


def by_budget(model, folder, share=0.5):
    """What does not fit into half of the memory that the weights take is read from the disk."""
    model.save_pretrained(folder / "model")
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    options = {
        "device_map": "auto",
        "max_memory": {"cpu": int(share * size)},
        "offload_folder": folder / "away",
    }
    return LiquidTextGenerationModel.from_pretrained(folder / "model", **options)


@pytest.mark.parametrize("put_away", [on_disk, in_memory, by_budget])
@pytest.mark.parametrize(
    ("dtype", "options"), [(torch.float32, {}), (torch.bfloat16, OTHERS)], ids=["", "others"]
)
@torch.no_grad()
def test_an_offloaded_model_is_the_model(put_away, dtype, options, tmp_path):
    model = small(**options).to(dtype)
    away = put_away(model, tmp_path)
    assert sum(p.is_meta for p in away.parameters()) > 20 and away.device.type == "cpu"
    ids = torch.randint(3, 64, (2, 9), generator=torch.Generator().manual_seed(0))
    times = {"timestamps": torch.arange(18.0).view(2, 9)} if model.time_head is not None else {}
    expected, found = (each(ids, labels=ids, **times) for each in (model, away))
    assert error(found.logits, expected.logits) < 1e-6 and error(found.loss, expected.loss) < 1e-6
    write = {"max_new_tokens": 6, "do_sample": False, **times}
    assert torch.equal(away.generate(ids, **write), model.generate(ids, **write))
    assert error(away.base_model(ids).last_hidden_state, model.base_model(ids).last_hidden_state) < 1e-6

    state = model.new_state()
    token = read(model, ids, state).argmax(-1)
    step, other = LiquidStep(model)(token, state.copy()), LiquidStep(away)(token, state.copy())
    assert error(other, step) < 1e-6
    assert away.embedding.round_trip_survival() == model.embedding.round_trip_survival()
    assert error(away.embedding.flow_loss(ids), model.embedding.flow_loss(ids)) < 1e-6
    assert sum(p.is_meta for p in away.parameters()) > 20  # put away again


def test_an_offloaded_model_is_saved_whole(tmp_path):
    model = small(tie_word_embeddings=True)
    by_budget(model, tmp_path, 0.2).save_pretrained(tmp_path / "again")
    again = LiquidTextGenerationModel.from_pretrained(tmp_path / "again").state_dict()
    assert again.keys() == model.state_dict().keys()
    assert all(torch.equal(again[name], weight) for name, weight in model.state_dict().items())

"""What a folder's weights must have, and what its reader may ask to initialise again."""

import pytest
import torch
from helpers import error, randomise
from safetensors.torch import load_file, save_file

from liquidlm.errors import LiquidError
from liquidlm.model.config import LiquidConfig
from liquidlm.model.pretrained import LiquidTextGenerationModel

SIZES = {"vocab_size": 64, "embedding_dim": 16, "latent_dim": 8, "hidden_size": 16}
SMALL = {"flow_hidden_dim": 8, "num_flows": 2, "num_heads": 2, "ngram_rows": 40, "num_hidden_layers": 2}
FORMAT = {"format": "pt"}
load = LiquidTextGenerationModel.from_pretrained


@pytest.fixture(params=[False, True], ids=["untied", "tied"])
def saved(request, tmp_path):
    """A model and its folder."""
    torch.manual_seed(0)
    config = LiquidConfig(**SIZES, **SMALL, tie_word_embeddings=request.param)
    model = randomise(LiquidTextGenerationModel(config)).eval()
    model.save_pretrained(tmp_path)
    return model, tmp_path


def tokens():
    return torch.randint(3, 64, (2, 9), generator=torch.Generator().manual_seed(0))


def test_a_head_that_was_asked_for_begins_as_in_a_new_model(saved):
    model, folder = saved
    with pytest.warns(UserWarning, match=r"new weights, to be trained: blocks\.2\..* and 17 more"):
        timed = load(folder, time_components=2)
    assert error(timed(tokens()).logits, model(tokens()).logits) < 1e-6
    new = LiquidTextGenerationModel(timed.config)
    for name, fresh in new.state_dict().items():
        mine = timed.state_dict()[name]
        if name in model.state_dict():
            assert torch.equal(mine, model.state_dict()[name])
        elif name.endswith(("norm.weight", "log_tau", "of_state.bias")):  # begins at constants
            assert torch.equal(mine, fresh), name
        else:
            assert torch.equal(mine, fresh) or 0.3 < mine.std() / fresh.std() < 3, name


def test_other_sizes_are_initialised_again_if_asked_for(saved):
    _, folder = saved
    with pytest.raises(LiquidError, match=r"\(64, 16\).*\(70, 16\).*ignore_mismatched_sizes=True"):
        load(folder, vocab_size=70)
    with pytest.warns(UserWarning, match=r"trained: embedding\.embedding\.weight"):
        model = load(folder, vocab_size=70, ignore_mismatched_sizes=True)
    table, output = model.embedding.embedding.weight, model.output_proj.weight
    assert table.shape == (70, 16) and 0.9 < table.std() < 1.1
    assert (table is output) == model.config.tie_word_embeddings and (table is output or output.std() < 0.1)
    assert model(torch.tensor([[69, 3]])).logits.isfinite().all()


@pytest.mark.parametrize("wish", [{}, {"time_components": 2}, {"ignore_mismatched_sizes": True}], ids=str)
def test_a_folder_that_lacks_weights_is_refused_whatever_is_asked_for(saved, wish):
    _, folder = saved
    weights = load_file(folder / "model.safetensors")
    for name in ("blocks.0.out.weight", "embedding.embedding.weight"):
        save_file({n: w for n, w in weights.items() if n != name}, folder / "model.safetensors", FORMAT)
        with pytest.raises(LiquidError, match=rf"lacks {name}.*;.*time_components"):
            load(folder, **wish)
        with pytest.raises(LiquidError, match=rf"lacks {name}.*;"):
            load(folder, config=LiquidConfig.from_pretrained(folder, **wish))


@pytest.mark.parametrize(("components", "blocks"), [(0, 3), (2, 1), (2, 3)])
def test_a_time_heads_block_is_taken_for_no_other(tmp_path, components, blocks):
    """Its number follows those of the text: with another number of blocks it would load as one of them."""
    config = LiquidConfig(vocab_size=32, embedding_dim=12, latent_dim=6, hidden_size=16, num_hidden_layers=2)
    config.time_components = 2
    LiquidTextGenerationModel(config).save_pretrained(tmp_path)
    with pytest.raises(LiquidError, match=f"num_hidden_layers=2, not {blocks}: with a time head"):
        load(tmp_path, time_components=components, num_hidden_layers=blocks)
    assert load(tmp_path).config.time_components == 2


def test_what_is_missing_is_told_to_who_asks_for_it(saved):
    model, folder = saved
    weights = load_file(folder / "model.safetensors")
    del weights["blocks.0.out.weight"]
    save_file(weights, folder / "model.safetensors", FORMAT)
    with pytest.warns(UserWarning, match=r"new weights, to be trained: blocks\.0\.out\.weight$"):
        loaded, info = load(folder, output_loading_info=True)
    assert info["missing_keys"] == {"blocks.0.out.weight"}
    assert 0.03 < loaded.blocks[0].out.weight.std() < 0.3
    with pytest.warns(UserWarning, match="new weights"):
        begun = load(None, config=model.config, state_dict={})
    assert begun(tokens()).logits.isfinite().all()

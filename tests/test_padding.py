"""Padding and documents in the model's loss and errors."""

import pytest
import torch
import torch.nn.functional as F
from helpers import error, randomise, state_error

from liquidlm import LiquidConfig, LiquidError, LiquidTextGenerationModel
from liquidlm.model.labels import next_labels
from liquidlm.nn.events import Events
from liquidlm.nn.state import fresh_time

IDS = torch.randint(4, 32, (2, 9), generator=torch.Generator().manual_seed(0))


def tiny() -> LiquidTextGenerationModel:
    torch.manual_seed(0)
    model = LiquidTextGenerationModel(32, 12, 6, 16, num_hidden_layers=2, dropout_rate=0.0)
    return randomise(model, 1, 0.2).double().eval()


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("training", [True, False])
def test_padding_does_not_change_the_loss(side: str, training: bool) -> None:
    """Row 1 has six tokens; padded, its loss and the flow's term are those of the rows alone."""
    model = tiny().train(training)
    pads = torch.ones(1, 3, dtype=torch.long)
    row = IDS[1:, :6]
    short = torch.cat([pads, row] if side == "left" else [row, pads], 1)
    mask = torch.cat(
        [
            torch.ones(1, 9),
            torch.cat([pads * 0, row * 0 + 1] if side == "left" else [row * 0 + 1, pads * 0], 1),
        ]
    )
    both = torch.cat([IDS[:1], short])
    whole = model(both, mask, labels=both).loss
    alone = [model(ids, labels=ids) for ids in (IDS[:1], row)]
    flow = model.config.flow_loss_weight if training else 0.0
    terms = [out.loss - flow * (out.flow_loss if training else 0.0) for out in alone]
    expected = (8 * terms[0] + 5 * terms[1]) / 13
    if training:
        expected = expected + flow * model.embedding.flow_loss(
            torch.cat([IDS[:1].flatten(), row.flatten()])[None]
        )
    assert error(whole, expected) < 1e-12


def test_the_first_token_of_a_document_is_not_predicted_from_the_one_before() -> None:
    model = tiny()
    starts = torch.zeros(2, 9, dtype=torch.bool)
    starts[:, 5] = True
    packed = model(IDS, starts=starts, labels=IDS).loss
    first, second = (model(part, labels=part).loss for part in (IDS[:, :5], IDS[:, 5:]))
    assert error(packed, (4 * first + 3 * second) / 7) < 1e-12


def test_a_document_that_changes_at_a_padded_position_starts_at_the_next_real_one() -> None:
    model = tiny()
    ids, mask = IDS[:1, :4], torch.tensor([[1, 1, 0, 1]])
    logits = model(ids, mask, seq_idx=torch.tensor([[0, 0, 1, 1]])).logits
    assert error(logits[:, 3:], model(ids[:, 3:]).logits) < 1e-12


def test_errors_name_the_position_that_was_given_not_where_padding_moved_it() -> None:
    times = torch.arange(9.0).repeat(2, 1)
    times[1, 6] = 2.5
    mask = torch.ones(2, 9)
    mask[1, :4] = 0
    with pytest.raises(LiquidError, match="row 1, position 6"):
        tiny()(IDS, mask, timestamps=times)


@torch.no_grad()
def test_padding_fades_no_memory() -> None:
    """Where events count beside gaps (`memory_scale`), a padded position is still none."""
    torch.manual_seed(0)
    sizes = {"embedding_dim": 8, "latent_dim": 4, "hidden_size": 16, "num_hidden_layers": 2, "ngram_rows": 0}
    config = LiquidConfig(vocab_size=40, memory_scale=5.0, mixer_types=["memory", "time"], **sizes)
    model = randomise(LiquidTextGenerationModel(config)).double().eval()
    ids = torch.randint(0, 40, (1, 9))
    mask = torch.tensor([[1] * 9 + [0] * 30])
    alone, padded = model(ids).state, model(F.pad(ids, (0, 30)), mask).state
    assert max(map(state_error, padded.states(), alone.states())) < 1e-12


def test_the_elapsed_time_of_padding_is_0() -> None:
    real = torch.tensor([[True, True, False, True]])
    times = torch.tensor([[0.0, 2.0, 5.0, 7.0]])
    events = Events.build(
        times, fresh_time(1, times.device), length=4, time_scale=2.0, gap_weight=0.5, real=real
    )
    assert events.elapsed.tolist() == [[1.0, 1.5, 0.0, 2.25]]
    assert events.duration.tolist() == [[2.0, 2.5, 0.0, 3.25]]


def test_nothing_follows_beside_padding_or_across_documents() -> None:
    labels = torch.arange(10, 16)[None]
    starts = torch.tensor([[True, False, False, True, False, False]])
    real = torch.tensor([[True, True, True, True, True, False]])
    assert next_labels(labels, None, None).tolist() == [[11, 12, 13, 14, 15, -100]]
    assert next_labels(labels, None, starts).tolist() == [[11, 12, -100, 14, 15, -100]]
    assert next_labels(labels, real, None).tolist() == [[11, 12, 13, 14, -100, -100]]

"""Words met before: which words of a document are judged, on which bytes, and what a state saves."""

import math
from types import SimpleNamespace

import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Text

from benchmarks import long_context, machine, met_words, plots
from benchmarks.language_models import LanguageModel
from benchmarks.met_words import Vocabulary, Word, rare_words
from liquidlm.text.corpus import Document

NOTHING = Vocabulary([])
TRAINING = Vocabulary(["so it was " * 400_000, "Rarely seen. rarely!", "Once"])
"""1.2 million words."""


def found(text: str, training: Vocabulary = NOTHING) -> list[tuple[str, int, int]]:
    return [(word.text, word.first, word.last) for word in rare_words(text, training)]


@pytest.mark.parametrize(
    ("word", "rare"), [("never", True), ("Once", True), ("RARELY", False), ("so", False), ("it", False)]
)
def test_a_word_is_rare_up_to_once_in_a_million_in_any_case(word, rare):
    assert TRAINING.is_rare(word) == rare


def test_a_word_is_found_again_in_any_case_with_its_first_and_last_place():
    text = "Thornfield was dark. THORNFIELD! I left thornfield."
    assert found(text, Vocabulary(["was dark left"] * 9)) == [
        ("thornfield", 0, 0),
        ("thornfield", 0, 0),
        ("thornfield", 0, 21),
    ]


def test_short_words_digits_and_parts_of_words_are_not_words():
    assert found("Ada 1847 Ada a1b2 don't x_yz") == []
    assert [word for word, *_ in found("Adas Jane's mother-in-law 7sons under_score")] == [
        "adas", "jane", "mother", "sons", "under", "score"
    ]  # fmt: skip


def test_places_are_bytes_and_cover_the_word_alone():
    text = "¡Ñandú, señor! El ñandú…\n日本 Ñandú"
    data = text.encode()
    words = list(rare_words(text, NOTHING))
    assert [data[word.begin : word.end].decode() for word in words] == ["Ñandú", "señor", "ñandú", "Ñandú"]
    assert [word.first for word in words] == [2, 11, 2, 2]
    assert [word.last for word in words] == [2, 11, 2, words[2].begin]
    inside = met_words.places(words, len(data))
    assert (
        bytes(b for b, chosen in zip(data, inside, strict=True) if chosen).decode() == "ÑandúseñorñandúÑandú"
    )


def test_a_word_that_is_cut_is_left_out():
    words = [Word("jane", 2, 6, 0, 0), Word("reed", 8, 12, 0, 0)]
    assert met_words.places(words, 11).nonzero().flatten().tolist() == [2, 3, 4, 5]


@pytest.mark.parametrize(("gap", "met"), [(8185, False), (8188, False), (8189, True), (20_000, True)])
def test_a_word_counts_when_it_was_first_met_more_than_8192_bytes_earlier(gap, met):
    text = "Jane" + " " * gap + "Jane Jane"
    (_, second, third) = rare_words(text, NOTHING)
    assert met_words.met_before([second]) == ([second] if met else [])
    assert met_words.met_before([third]) == ([third] if gap + 9 > 8192 else [])
    assert met_words.long_unseen([second, third]) == ([second] if met else [])


def test_bits_are_of_the_judged_bytes_of_all_documents_together():
    nats = [torch.tensor([1.0, 2.0, 9.0]), torch.tensor([9.0, 6.0])]
    judged = [torch.tensor([True, True, False]), torch.tensor([False, True])]
    assert met_words.bits_per_byte(nats, judged) == pytest.approx(3 / math.log(2))


class Reader(LanguageModel):
    """Knows what follows each byte if it has read those two bytes before, since the last reset."""

    def __init__(self, carries: bool):
        super().__init__()
        self.carries = carries

    def forward(self, ids, targets, state=None):
        raise NotImplementedError

    def logits(self, ids, state=None):
        before, known = state or (None, {})
        known = dict(known)
        logits = torch.zeros(1, ids.shape[1], 261)
        for i, token in enumerate(ids[0].tolist()):
            if before is not None:
                known[before] = token
            if token in known:
                logits[0, i, known[token]] = 30.0
            before = token
        return logits, (before, known)


@pytest.fixture
def novels(tmp_path, monkeypatch):
    """Results go to a folder of their own; the held-out novel says a name again after 9,000 spaces."""
    monkeypatch.setattr(machine, "RESULTS", tmp_path)
    monkeypatch.setattr(plots, "IMAGES", tmp_path)
    monkeypatch.setattr(long_context, "PART", 9_100)
    monkeypatch.setattr(Figure, "savefig", lambda figure, file, **_: shown.update({file.name: texts(figure)}))
    shown: dict[str, set[str]] = {}
    test = [Document("Jane" + " " * 9000 + "Jane" + " " * 500 + "Jane", "novels/jane.txt")]
    split = {"train": [Document("so it was " * 9, "a")], "test": test}
    monkeypatch.setattr(long_context, "TEXTS", {"novels-en": (lambda: split, None)})
    models = {"liquidlm": Reader(True), "llama": Reader(False)}
    monkeypatch.setattr(
        long_context, "trained", lambda text, name: (models[name], SimpleNamespace(length=256, bf16=False))
    )
    return shown


def texts(figure: Figure) -> set[str]:
    return {text.get_text() for text in figure.findobj(Text)}


def test_words_met_before_are_judged_with_the_state_carried_reset_and_in_windows(novels, capsys):
    long_context.main(["--rows", "words"])
    entry = machine.read_results("long_context")["words_met_before"]["novels-en"]
    assert entry["novels"] == ["jane.txt"]
    assert entry["words"] == {"met_before": 1, "long_unseen": 1}  # the third is after the part that is judged
    bits = {name: each["met_before"] for name, each in entry["bits_per_byte"].items()}
    chance = math.log2(261)
    assert list(bits) == ["liquidlm, state carried", "liquidlm, reset every 2,048", "llama, windows of 256"]
    wrong = 30 / math.log(2)  # it expects a space after a space
    assert bits["liquidlm, state carried"] == pytest.approx(wrong / 4, abs=1e-3)
    assert bits["liquidlm, reset every 2,048"] == pytest.approx((wrong + 3 * chance) / 4, abs=1e-3)
    assert bits["llama, windows of 256"] == pytest.approx((wrong + 3 * chance) / 4, abs=1e-3)
    said = capsys.readouterr().out
    assert f"{1 - wrong / (wrong + 3 * chance):.1%} fewer bits of words met before" in said
    assert "liquidlm, reset every 2,048" in novels["long_context.png"]
    assert {"liquidlm, se borra cada 2.048", "palabras raras ya leídas, novelas inglesas, bytes"} <= novels[
        "long_context-es.png"
    ]


def test_positions_and_words_stand_side_by_side(novels):
    long_context.main(["--models", "liquidlm"])
    long_context.main(["--rows", "words", "--models", "llama"])
    figures = machine.read_results("long_context")
    by_position = figures["positions"]["novels-en"]["bits_per_byte"]
    assert list(by_position) == ["liquidlm, state carried"] + [
        f"liquidlm, reset every {reset:,}" for reset in long_context.RESETS
    ]
    assert list(by_position["liquidlm, state carried"]) == ["0", "1024", "2048", "4096", "8192"]
    assert list(figures["words_met_before"]["novels-en"]["bits_per_byte"]) == ["llama, windows of 256"]
    titles = {"held-out English novels", "rare words met before, English novels, bytes"}
    assert titles <= novels["long_context.png"] and not titles & novels["long_context-es.png"]


def test_a_model_without_weights_is_named_with_the_command_that_trains_it(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "RESULTS", tmp_path)
    with pytest.raises(SystemExit, match='bench quality --text novels-es --models "liquidlm with counts"'):
        long_context.trained("novels-es", "liquidlm with counts")

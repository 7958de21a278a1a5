"""The text of a completion: what is sent, and where it stops."""

from engines import TOKENIZER
from hypothesis import given
from hypothesis import strategies as st

from liquidlm.serve.completion_text import CompletionText
from liquidlm.serve.jobs import Finished, Token

PIECES = st.lists(
    st.sampled_from([b"a", b"b", b"ab", "é".encode()[:1], "é".encode()[1:], b"\n"]), max_size=12
)


@given(PIECES, st.lists(st.text("abé\n", min_size=1, max_size=4), max_size=3))
def test_stop_strings(pieces: list[bytes], stops: list[str]) -> None:
    """What is sent is the text up to the first stop, and never more on the way."""
    text, sent, stopped, kept = CompletionText(TOKENIZER, stops), "", False, []
    written = [4 + byte for piece in pieces for byte in piece]
    for token in written:
        piece = text.push(Token(token))
        sent += piece.text
        kept += piece.tokens
        if piece.end is not None:
            stopped = True
            break
    if not stopped:
        ending = text.end(Finished("length"))
        sent, stopped = sent + ending.text, ending.end == Finished("stop")
        kept += ending.tokens
    whole = TOKENIZER.decode(written)
    # Stops are looked for as characters come: the first to be complete counts.
    ends = [(at + len(stop), at) for stop in stops if (at := whole.find(stop)) >= 0]
    first = min(ends)[0] if ends else None
    expected = whole if first is None else whole[: min(at for end, at in ends if end == first)]
    assert sent == expected and stopped == bool(ends)
    # An event has each token with the text that it begins, in order, and no token after the text.
    assert [token.id for token, _ in kept] == written[: len(kept)]
    assert all(at < len(sent) for _, at in kept) if stopped else len(kept) == len(written)


def test_of_two_stops_at_once_the_first_in_the_text_ends_it() -> None:
    for stops in (["c", "bc"], ["bc", "c"]):
        text = CompletionText(TOKENIZER, stops)
        pieces = [text.push(Token(4 + byte)) for byte in b"abc"]
        assert "".join(piece.text for piece in pieces) == "a" and pieces[-1].end == Finished("stop")

"""What the server's page keeps, and what it shows of single tokens, in a real browser."""

import json
import math
import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from browsing import needs_browser
from page_actions import LIT, PROMPT, command, drawn, figures, rough, whole, write
from playwright.sync_api import Page, expect
from serving import NAME, TOKENIZER, ask, served, tiny

pytestmark = needs_browser


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with served({NAME: tiny(), "other": tiny(num_hidden_layers=1)}) as port:
        yield port


def press(page: Page, name: str) -> str:
    """The text once a button has done its work."""
    page.get_by_role("button", name=name, exact=True).click()
    return drawn(page)


def shown(page: Page) -> tuple[str, str, str, str]:
    """Text, seed, prompt and temperature."""
    values = [page.locator(f"#{name}").input_value() for name in ("prompt", "temperature")]
    return (page.locator("#text").text_content() or "", page.locator("#used").text_content() or "", *values)


def test_steps_survive_a_reload_and_can_be_undone(visit, port) -> None:
    page = visit(port)
    page.locator("#temperature").fill("0.5")
    first = write(page, "One", 20, seed=None)
    seed = page.locator("#used").text_content()
    assert seed is not None and seed.isdecimal()
    second = press(page, "Continue")
    assert second.startswith(first) and page.locator("#used").text_content() != seed
    assert press(page, "Retry with this seed") == second  # the last step alone
    third = write(page, "Two", 20, seed=None)
    before = shown(page)
    assert before[0] == third and before[2:] == ("Two", "0.5")
    page.reload()
    assert drawn(page) == third and shown(page) == before
    assert [press(page, "Undo") for _ in range(3)] == [second, second, first]
    assert shown(page) == (first, seed, "One", "0.5")
    expect(page.get_by_role("button", name="Undo")).to_be_disabled()
    assert press(page, "Retry with this seed") == first
    page.locator("#prompt").fill("a draft")
    page.locator("#history summary").click()
    expect(page.locator("#texts li")).to_have_count(5)
    page.locator("#texts button").nth(1).click()
    assert drawn(page) == third and shown(page)[2] == "Two"
    expect(page.locator("#texts button").first).to_contain_text("not written: a draft")
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete the history").click()
    page.reload()
    expect(page.locator("#texts li")).to_have_count(0)
    assert page.locator("#text").text_content() == ""


def test_a_text_that_is_being_written_survives_a_reload(visit, port) -> None:
    page = visit(port)
    page.locator("#temperature").fill("0")
    page.get_by_label("Length").fill("60000")
    page.get_by_role("button", name="Write").click()
    expect(page.locator("#tokens")).to_have_text(re.compile(r"\d\d tokens"))
    so_far = page.locator("#text").text_content()
    assert page.locator("#texts").evaluate("texts => texts.inert")  # another text cannot get what is written
    page.reload()
    assert drawn(page).startswith(so_far)


def test_without_storage_the_page_works_and_says_so(visit, port) -> None:
    page = visit(port)
    full = "Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); }"
    page.evaluate(f"() => {{ {full} }}")
    first = write(page, "One", 10)
    expect(page.locator("#unkept")).to_be_visible()
    write(page, "Two", 10)
    assert press(page, "Undo") == first  # kept as long as the page is


def test_a_text_that_is_too_long_to_keep(visit, port) -> None:
    page = visit(port)
    text = "\x01" * 350_000  # each has six characters in JSON
    event = {"choices": [{"index": 0, "text": text, "finish_reason": "length"}]}
    body = f"data: {json.dumps(event)}\n\ndata: [DONE]\n\n"
    page.route("**/v1/completions", lambda route: route.fulfill(content_type="text/event-stream", body=body))
    page.get_by_role("button", name="Write").click()
    expect(page.locator("#unkept")).to_be_visible()


def test_broken_and_full_storage_is_no_obstacle(visit, port) -> None:
    page = visit(port)
    page.evaluate("() => Object.assign(localStorage, {'liquidlm.history': '{}', 'liquidlm.settings': '{'})")
    page.reload()
    assert write(page, length=5).startswith(PROMPT)
    many = "Array.from({length: 60}, (_, id) => ({id, at: 0, prompt: 'a', given: 'a', written: ''}))"
    page.evaluate(f"() => {{ localStorage['liquidlm.history'] = JSON.stringify({many}); }}")
    write(page, "the newest", 5)
    expect(page.locator("#texts li")).to_have_count(50)
    expect(page.locator("#texts li").first).to_contain_text("the newest")


def test_copying(visit, port) -> None:
    page = visit(port)
    text = write(page, length=10)
    copied = "navigator.clipboard.writeText = async (text) => { document.body.dataset.copied = text; }"
    page.evaluate(f"() => {{ {copied} }}")
    page.locator("#copy").click()
    expect(page.locator("#copy")).to_have_text("Copied.")
    assert page.locator("body").get_attribute("data-copied") == text


POINT = """(at) => {
  const walker = document.createTreeWalker(document.querySelector("#text"), NodeFilter.SHOW_TEXT);
  const range = new Range();
  while (walker.nextNode() && at >= walker.currentNode.length) at -= walker.currentNode.length;
  range.setStart(walker.currentNode, at);
  range.setEnd(walker.currentNode, at + 1);
  const { x, y, width, height } = range.getBoundingClientRect();
  return [x + width / 2, y + height / 2];
}"""


def test_a_word_and_its_column_light_each_other(visit, port) -> None:
    page = visit(port)
    text = write(page, "\U0001f642 añb " + "c" * 700, 30)
    assert 100 < len(text) < 400  # the prompt is folded
    text = whole(page)
    found = figures(port, text)
    cells, at = page.locator("#cells"), page.locator("#readout span")
    for token, lit in (
        (0, "\U0001f642"),
        (3, "\U0001f642"),
        (4, " "),
        (5, "a"),
        (6, "ñ"),
        (7, "ñ"),
        (8, "b"),
    ):
        cells.focus()
        page.keyboard.press("Home")
        for _ in range(token):
            page.keyboard.press("ArrowRight")
        assert found["offsets"][token] == text.index(lit) and page.evaluate(LIT) == lit
    place = text.index("añb") + 2
    page.locator("#text").scroll_into_view_if_needed()
    page.mouse.move(*page.evaluate(POINT, place + 1))  # it counts UTF-16 units: the smile has two
    expect(at).to_contain_text(f"token {found['offsets'].index(place) + 1} of ")
    assert page.evaluate(LIT) == "b"
    page.locator("#unfold").click()
    expect(page.locator("#text")).not_to_contain_text("añb")


def test_the_chances_of_other_tokens(visit, port) -> None:
    page = visit(port)
    text = write(page, length=20)
    asked = {"model": NAME, "prompt": PROMPT, "max_tokens": 20, "temperature": 0.8, "top_p": 0.95, "seed": 1}
    logprobs = ask(port, "/v1/completions", asked | {"logprobs": 5})[1]["choices"][0]["logprobs"]
    tip, slider = page.locator("#chances"), page.get_by_role("slider", name="Token")
    expect(tip).to_be_hidden()
    slider.focus()
    page.keyboard.press("Home")
    for i in range(3):
        likeliest = sorted(logprobs["top_logprobs"][i].values(), reverse=True)
        own = logprobs["token_logprobs"][i]
        expected = likeliest if own in likeliest else [*likeliest, own]
        shares = [float(cell.rstrip("%")) for cell in tip.locator("td").all_text_contents()]
        assert shares == pytest.approx([100 * math.exp(value) for value in expected], rel=0.06)
        drawn_at = tip.locator(".drawn").evaluate_all("rows => rows.map((row) => row.rowIndex)")
        assert len(drawn_at) == 1 and expected[drawn_at[0]] == own
        assert (slider.get_attribute("aria-valuetext") or "").count("%") == 1 + len(likeliest)
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Escape")
    expect(tip).to_be_hidden()
    page.mouse.move(*page.evaluate(POINT, len(text) - 3))
    expect(tip).to_be_visible()
    page.mouse.move(0, 0)
    expect(tip).to_be_hidden()


def test_states_are_kept_forked_and_gone_on_from(visit, port) -> None:
    page = visit(port)
    text = write(page, "Once", 10)
    page.locator("#states summary").click()
    said, name = page.locator("#states_said"), page.get_by_label("Name of the new state")
    name.fill("Not a name")
    page.get_by_role("button", name="Keep the state of the text").click()
    assert page.evaluate("document.activeElement.id") == "new_name"
    name.fill("book")
    page.get_by_role("button", name="Keep the state of the text").click()
    expect(said).to_contain_text("“book” is kept")
    tokens = ask(port, "/liquid/states/book")[1]["tokens"]
    expect(said).to_have_text(f"The state “book” is kept: {tokens} tokens.")
    name.fill("")
    page.get_by_role("button", name="Fork: book").click()
    expect(said).to_have_text(f"The state “book-2” is kept: {tokens} tokens.")
    page.get_by_role("button", name="Begin here: book-2").click()
    after = write(page, " and", 10)
    asked = {"model": NAME, "prompt": " and", "max_tokens": 10, "temperature": 0.8, "top_p": 0.95, "seed": 1}
    again = ask(port, "/v1/completions", asked | {"prompt": text + " and"})[1]["choices"][0]["text"]
    assert after == " and" + again
    expect(page.locator("#caption")).to_contain_text("without the state")
    assert '"state":"book-2"' in command(page)
    name.fill("book")
    questions: list[str] = []

    def answer(dialog: Any) -> None:
        questions.append(dialog.message)
        dialog.accept()

    page.on("dialog", answer)
    page.get_by_role("button", name="Keep the state of the text").click()  # of all, with what came before
    expect(said).to_contain_text("“book” is kept")
    assert ask(port, "/liquid/states/book")[1]["tokens"] == tokens + len(TOKENIZER.encode(after))
    page.get_by_role("button", name="Delete: book-2").click()
    expect(said).to_have_text("The state “book-2” is deleted.")
    assert questions == ["There is a state “book”. Replace it?", "Delete the state “book-2” on the server?"]
    page.remove_listener("dialog", answer)
    assert [one["name"] for one in ask(port, "/liquid/states")[1]["data"]] == ["book"]
    expect(page.get_by_label("Begin after a kept state")).to_have_value("")  # what is gone is not begun after
    page.get_by_role("button", name="Continue").click()
    expect(page.locator("#said")).to_contain_text("there is no state 'book-2'")


def test_another_model_is_chosen_and_remembered(visit, port) -> None:
    page = visit(port)
    page.get_by_label("Model that writes").select_option("other")
    expect(page.locator("#name")).to_have_text("other")
    write(page, length=5)
    expect(page.locator("#layers li")).to_have_count(1)
    page.reload()
    expect(page.locator("#name")).to_have_text("other")
    expect(page.locator("#layers li")).to_have_count(1)
    page.get_by_label("Model that writes").select_option(NAME)
    expect(page.locator("#name")).to_have_text(NAME)
    press(page, "Continue")  # the text stays with its model
    expect(page.locator("#layers li")).to_have_count(1)


def test_the_command_asks_for_what_the_page_asks(visit, port) -> None:
    page = visit(port)
    prompt = "It's 'quoted' $HOME `x`\n\"and\" \\ more"
    text = write(page, prompt, 10)
    words = shlex.split(command(page).replace("\\\n", ""))
    assert words[:2] == ["curl", f"http://127.0.0.1:{port}/v1/completions"]
    found = ask(port, "/v1/completions", json.loads(words[words.index("-d") + 1]))[1]
    assert prompt + found["choices"][0]["text"] == text
    assert page.locator("#base").text_content() == f"http://127.0.0.1:{port}/v1"


def test_in_spanish(visit, port) -> None:
    page = visit(port, path="?lang=es")
    assert page.locator("html").get_attribute("lang") == "es"
    page.get_by_role("textbox", name="Entrada").fill("Hola")
    page.get_by_label("Longitud en tokens").fill("5")
    page.get_by_role("button", name="Escribir").click()
    drawn(page)
    expect(page.locator("#said")).to_have_text("El texto tiene la longitud pedida.")
    found = figures(port, page.locator("#text").text_content() or "")
    median, count = spanish(rough(found["time_constants"][0][-1][1])), len(found["tokens"])
    line = f"bloque 0, token {count} de {count}: mediana {median} tokens"
    expect(page.locator("#readout span")).to_contain_text(line)
    page.goto(f"http://127.0.0.1:{port}/")  # the choice is kept
    expect(page.get_by_role("button", name="Escribir")).to_be_visible()
    page.get_by_role("link", name="English").click()
    expect(page.get_by_role("button", name="Write")).to_be_visible()


def spanish(number: str) -> str:
    """A number as Spanish writes it: no sign in four digits."""
    digits = number.replace(",", "")
    return digits.replace(".", ",") if float(digits) < 10_000 else number.replace(",", ".")

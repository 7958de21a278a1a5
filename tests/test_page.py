"""The server's page in a real browser: what it writes, shows and draws, by mouse, by keyboard, on a phone."""

import json
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from browsing import needs_browser
from page_actions import (
    LIMIT,
    LIT,
    PROMPT,
    begin_endless,
    command,
    drawn,
    figures,
    ramp,
    readout,
    rough,
    whole,
    write,
)
from playwright.sync_api import Error, Route, expect
from serving import NAME, TOKENIZER, ask, idle, load, served, tiny

pytestmark = needs_browser


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with served(tiny(), new_tokens=LIMIT) as port:
        yield port


# ---- writing


def test_writes_and_goes_on(visit, port) -> None:
    page = visit(port)
    asked = {"model": NAME, "prompt": PROMPT, "max_tokens": 40, "temperature": 0.8, "top_p": 0.95, "seed": 1}
    text = write(page)
    _, answer = ask(port, "/v1/completions", asked)
    assert text == PROMPT + answer["choices"][0]["text"]
    assert page.locator("#given").text_content() == PROMPT
    expect(page.get_by_role("status")).to_have_text("The requested length is reached.")
    card = ask(port, "/v1/models")[1]["data"][0]
    expect(page.locator("#state")).to_have_text(f"{card['state_bytes']:,} bytes")
    expect(page.locator("#facts")).to_contain_text(f"{card['parameters']:,} parameters")
    expect(page.locator("#tokens")).to_have_text("40 tokens")
    expect(page.locator("#read")).to_have_text(f"{len(PROMPT) + 1} tokens, 0 of them cached")
    expect(page.locator("#pace")).to_have_text(re.compile(r"^[\d,.]+ tokens/s$"))
    expect(page.locator("#first")).to_have_text(re.compile(r"^[\d,]+ ms$"))
    assert page.locator("#written [aria-hidden]").count() == 0  # all of it told to screen readers
    for expected in (PROMPT, text):  # the same once more, and on from all of it
        page.get_by_role("button", name="Write" if expected == PROMPT else "Continue").click()
        longer = drawn(page)
        assert longer.startswith(text)
        read = page.locator("#read").text_content() or ""
        assert int(read.split()[0]) == len(TOKENIZER.encode(expected)) + 1
    assert len(longer) > len(text)


def test_a_prefix_is_said_to_be_cached(visit, port) -> None:
    page = visit(port)
    for cached in (0, 301):
        write(page, "x" * 300)
        expect(page.locator("#read")).to_have_text(f"301 tokens, {cached} of them cached")


def test_stop(visit, port) -> None:
    page = visit(port)
    for how in ("button", "Escape"):
        begin_endless(page)
        assert load(port)["running"] == 1
        if how == "button":
            page.get_by_role("button", name="Stop").click()
        else:
            page.keyboard.press("Escape")
        expect(page.locator("#said")).to_have_text("Stopped.")
        assert idle(port)
        assert len(drawn(page)) > len("Once")
        expect(page.get_by_role("button", name="Continue")).to_be_enabled()


def test_what_a_model_writes_is_text(visit, port) -> None:
    page = visit(port)
    bad = "<img src=x onerror='document.title=1'><script>document.title = 1</script>&lt;b&gt;"
    choice = {"index": 0, "text": bad, "finish_reason": None}
    body = f"data: {json.dumps({'choices': [choice]})}\n\ndata: [DONE]\n\n"
    page.route("**/v1/completions", lambda route: route.fulfill(content_type="text/event-stream", body=body))
    assert write(page, bad) == bad + bad
    page.locator("#cells").hover()
    assert page.title().startswith(NAME)
    assert page.locator("main img, main script").count() == 0


def test_the_browser_lets_nothing_else_run(port, browser) -> None:
    context = browser.new_context()  # unwatched: what is refused is told in the console
    page = context.new_page()
    answer = page.goto(f"http://127.0.0.1:{port}/")
    assert "unsafe" not in answer.headers["content-security-policy"]
    with pytest.raises(Error, match="TrustedHTML"):
        page.evaluate("() => { document.body.innerHTML = '<b>no</b>' }")
    with pytest.raises(Error, match="Failed to fetch"):
        page.evaluate("() => fetch('http://localhost:9/')")
    context.close()


# ---- keyboard, phone, eyes


def test_by_keyboard_alone(visit, port) -> None:
    page = visit(port)
    names = []
    for _ in range(10):
        page.keyboard.press("Tab")
        names.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    controls = ["temperature", "top_p", "repetition_penalty", "top_k", "max_tokens", "seed"]
    assert names == ["language", "prompt", "write", "SUMMARY", *controls]
    page.keyboard.type("1")
    page.keyboard.press("Shift+Tab")
    page.keyboard.type("30")  # what is selected by tabbing is replaced
    page.keyboard.press("Control+Enter")
    text = drawn(page)
    expect(page.locator("#tokens")).to_have_text("30 tokens")
    for _ in range(14):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "cells":
            break
    found = figures(port, text)
    last = len(found["tokens"]) - 1
    at = page.locator("#readout span")
    for key, layer, token in [
        ("ArrowRight", 0, last),
        ("ArrowLeft", 0, last - 1),
        ("ArrowDown", 1, last - 1),
        ("ArrowDown", 1, last - 1),
        ("Home", 1, 0),
        ("ArrowLeft", 1, 0),
        ("ArrowRight", 1, 1),
        ("ArrowUp", 0, 1),
        ("End", 0, last),
    ]:
        page.keyboard.press(key)
        expect(at).to_have_text(readout(found, layer, token))
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("table")).to_be_visible()
    page.locator("#write").focus()
    page.keyboard.press("Enter")
    drawn(page)
    assert page.evaluate("document.activeElement.id") == "write"


def test_every_control_has_a_name(visit, port) -> None:
    page = visit(port)
    write(page)
    for name in ("Temperature", "Top-p", "Repetition penalty"):
        expect(page.get_by_role("slider", name=name)).to_be_visible()
    for name in ("Top-k", "Length", "Seed"):
        expect(page.get_by_role("spinbutton", name=name)).to_be_visible()
    expect(page.get_by_role("textbox", name="Prompt")).to_be_visible()
    expect(page.get_by_role("application", name=re.compile(r"Time constants of \d+ tokens"))).to_be_visible()
    nameless = re.compile(
        r"^\s*- (button|textbox|slider|spinbutton|checkbox|application|figure)(?! \")", re.M
    )
    assert not nameless.search(page.locator("body").aria_snapshot())
    assert page.locator("html").get_attribute("lang") == "en"


CONTRAST = """() => {
  const luminance = (rgb) => {
    const [r, g, b] = rgb.match(/[\\d.]+/g).map((x) => x / 255)
      .map((x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    const colour = getComputedStyle(element).backgroundColor;
    return colour === "rgba(0, 0, 0, 0)" ? behind(element.parentElement) : colour;
  };
  const found = {};
  const texts = "h1,h2,p,label,button,span,mark,dt,dd,li,th,td,summary";
  for (const element of document.body.querySelectorAll(texts)) {
    if (!element.textContent.trim() || element.disabled) continue;
    const [a, b] = [getComputedStyle(element).color, behind(element)].map(luminance);
    found[`${element.tagName}#${element.id}`] = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  }
  return found;
}"""


SMALL = """() => {
  const targets = "button, summary, a, select, textarea, input:not([type=checkbox]), label.tick";
  const seen = [...document.querySelectorAll(targets)].filter((element) => element.checkVisibility());
  const side = ({ width, height }) => Math.min(width, height);
  return seen.filter((one) => side(one.getBoundingClientRect()) < 43.9).map((one) => one.outerHTML);
}"""
BEHIND = "getComputedStyle(document.body).backgroundColor"


def test_on_a_phone(visit, port) -> None:
    page = visit(port, viewport={"width": 360, "height": 740}, has_touch=True, reduced_motion="reduce")
    overflow = "document.documentElement.scrollWidth - innerWidth"
    assert page.evaluate(overflow) <= 0
    expect(page.get_by_label("Length")).to_be_hidden()  # the settings are folded
    page.locator("#settings summary").tap()
    write(page, "Unbroken" * 30, length=60)
    for summary in page.locator("summary:not(#settings summary)").all():
        summary.tap()
    page.get_by_text("Show as a table").scroll_into_view_if_needed()
    assert page.evaluate(overflow) <= 0
    assert page.evaluate(SMALL) == []
    expect(page.get_by_role("button", name="Stop")).to_be_in_viewport()
    page.locator("#cells").tap(position={"x": 2, "y": 2})
    expect(page.locator("#readout span")).to_contain_text("block 0, token 1 of ")
    page.locator("#said").evaluate("said => { said.textContent = 'no'; said.classList.add('wrong'); }")
    for scheme, paper in (("light", "rgb(252, 251, 248)"), ("dark", "rgb(21, 25, 28)")):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        assert page.evaluate(BEHIND) == paper
        contrasts = page.evaluate(CONTRAST)
        assert len(contrasts) > 20 and min(contrasts.values()) >= 4.5, contrasts
    page.evaluate("document.body.classList.add('writing')")
    assert page.evaluate("getComputedStyle(written, '::after').animationName") == "none"


# ---- the picture


def test_time_constants(visit, port) -> None:
    page = visit(port)
    found = figures(port, write(page, "a b\nc"))
    layers, tokens = len(found["layers"]), len(found["tokens"])
    canvas = page.locator("canvas")
    assert [canvas.evaluate(f"c => c.{side}") for side in ("width", "height")] == [tokens, layers]
    medians = [[quartiles[1] for quartiles in row] for row in found["time_constants"]]
    flat = [(value, layer, token) for layer, row in enumerate(medians) for token, value in enumerate(row)]
    pixel = "(c, [x, y]) => [...c.getContext('2d').getImageData(x, y, 1, 1).data]"
    (least, *low), (most, *high) = min(flat), max(flat)
    for value, place in ((least, low), (most, high)):  # one colour for each power of ten, in every text
        assert canvas.evaluate(pixel, place[::-1]) == [*ramp(value), 255]
    ticks = page.locator("#ticks span").all_text_contents()
    assert ticks == ["≤ 1", "10", "100", "1,000", "10,000", "≥ 100,000"]
    named = page.locator("#cells").get_attribute("aria-label")
    assert f"medians from {rough(least)} to {rough(most)} tokens" in named
    cells = page.locator("#cells")
    box = cells.bounding_box()
    assert box is not None
    for layer, token in [(0, 0), (1, 7), (layers - 1, tokens - 1)]:
        x, y = (token + 0.5) / tokens * box["width"], (layer + 0.5) / layers * box["height"]
        cells.hover(position={"x": x, "y": y})
        expect(page.locator("#readout span")).to_have_text(readout(found, layer, token))
    cells.focus()
    page.keyboard.press("Home")
    expect(page.locator("#readout mark")).to_have_text("a")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    expect(page.locator("#readout mark")).to_have_text("⏎")
    page.get_by_text("Show as a table").click()
    for row, own in zip(page.get_by_role("row").all()[1:], medians, strict=True):
        values = [cell.split()[0] for cell in row.get_by_role("cell").all_text_contents()]
        assert values == [rough(x) for x in (min(own), sorted(own)[len(own) // 2], max(own))]


def test_of_a_long_text_the_end_is_drawn(visit, port) -> None:
    page = visit(port)
    write(page, "é" * 3000, length=1)
    text = whole(page)
    expect(page.locator("#caption")).to_contain_text("the end of the text alone")
    end = text.encode()[-4000:].decode(errors="ignore")
    assert page.locator("canvas").evaluate("c => c.width") == len(figures(port, end)["tokens"]) > 3990
    expect(page.locator("#readout mark")).to_have_text(figures(port, end)["tokens"][-1])


def test_a_model_with_times(visit) -> None:
    model: Any = tiny(time_components=3)
    model.time_head.of_state.bias.data[0] = 100.0  # all is written at one time, that of the silence's end
    with served(model) as port:
        page = visit(port)
        page.get_by_label("Seconds between prompt and text").wait_for()
        expect(page.get_by_label("Seconds between prompt and text")).to_be_disabled()
        page.get_by_label("Lines with times").check()
        page.get_by_label("Seconds between prompt and text").fill("90")
        text = write(page, "Hello")
        assert page.locator("#given").text_content() == "[00:00:00] Hello\n"
        assert text.startswith("[00:00:00] Hello\n[00:01:30")
        found = figures(port, re.sub(r"(?m)^\[[-\d:. ]+\] ", "", text))
        expect(page.locator("#readout span")).to_have_text(readout(found, 0, len(found["tokens"]) - 1, "s"))
        page.locator("#cells").focus()
        page.keyboard.press("Home")
        assert page.evaluate(LIT) == "H"  # after its time
        page.get_by_role("button", name="Continue").click()
        longer = drawn(page)
        assert longer.startswith(text) and len(longer) > len(text)


# ---- what goes wrong


def test_a_key_is_asked_for_and_kept(visit) -> None:
    with served(api_key="secret!") as port:
        page = visit(port, name="liquidlm")
        said = page.locator("#key_said")
        expect(page.get_by_role("heading", name="This server asks for a key")).to_be_visible()
        expect(said).to_have_text("")  # a question, not an error
        expect(page.locator("#desk")).to_be_hidden()
        page.get_by_label("API key").fill("wrong")
        page.keyboard.press("Enter")
        expect(said).to_have_text("The server does not take this key. Check it, and try again.")
        page.get_by_label("API key").fill("secret!")
        page.get_by_role("button", name="Use this key").click()
        expect(page.locator("#name")).to_have_text(NAME)
        expect(page.locator("#unlock")).to_be_hidden()
        assert write(page).startswith(PROMPT)
        page.reload()
        expect(page.locator("#name")).to_have_text(NAME)
        kept = "JSON.stringify({...localStorage}).includes('secret')"
        assert not page.evaluate(kept) and page.evaluate("document.cookie") == ""
        assert "secret" not in command(page)
        page.get_by_role("button", name="Forget the key").click()
        page.get_by_label("API key").fill("secret!")
        page.get_by_label("Keep the key in this browser").check()
        page.get_by_role("button", name="Use this key").click()
        expect(page.locator("#name")).to_have_text(NAME)
        assert page.evaluate(kept)


def stream(*events: object) -> str:
    return "".join(f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n" for event in events)


SOME = {"choices": [{"index": 0, "text": " and", "finish_reason": None}]}
ERROR = {"error": {"message": "it broke"}}
REFUSED = {"status": 429, "json": {"error": {"message": "9 texts are waiting"}}}
CLOSING = {"status": 503, "body": "gone"}
BROKEN = {"content_type": "text/event-stream", "body": stream(SOME, ERROR, "[DONE]")}
CUT = {"content_type": "text/event-stream", "body": stream(SOME) + 'data: {"choi'}


def handle(answer: dict[str, Any] | None, route: Route) -> None:
    route.abort() if answer is None else route.fulfill(**answer)


def test_nothing_is_lost_when_it_goes_wrong(visit, port) -> None:
    page = visit(port)
    text = write(page, length=20)
    for answer, line, added in (
        (REFUSED, "The server says: 9 texts are waiting (429)", ""),
        (CLOSING, "The server says: Service Unavailable (503)", ""),
        (BROKEN, "The server says: it broke", " and"),
        (CUT, "The connection was lost. The text so far is kept.", " and"),
        (None, "The server cannot be reached.", ""),
    ):
        page.route("**/v1/completions", partial(handle, answer))
        page.get_by_role("button", name="Continue").click()
        expect(page.locator("#said")).to_have_text(line)
        text += added
        assert drawn(page) == text
        page.unroute_all()
    page.get_by_role("button", name="Continue").click()
    expect(page.locator("#said")).to_have_text("The requested length is reached.")
    assert drawn(page).startswith(text)


def test_what_the_server_refuses(visit, port) -> None:
    page = visit(port)
    page.get_by_label("Length").fill("60000")
    page.get_by_role("button", name="Write").click()
    expect(page.locator("#said")).to_have_text(
        "The server says: max_tokens must be at most 50,000, not 60,000 (400)"
    )
    page.get_by_label("Length").fill("")  # the browser says so, and nothing is asked
    page.get_by_role("button", name="Write").click()
    assert page.evaluate("document.activeElement.id") == "max_tokens"
    expect(page.locator("#stop")).to_be_disabled()

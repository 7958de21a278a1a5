"""What a user does on the server's page, and what it then shows."""

import math
import re
from typing import Any

from playwright.sync_api import Page, expect
from serving import ask

PROMPT = "Once upon a time"
LIMIT = 50_000


def write(page: Page, prompt: str = PROMPT, length: int = 40, seed: int | None = 1) -> str:
    """The text once all is written and drawn."""
    page.get_by_role("textbox", name="Prompt").fill(prompt)
    page.get_by_label("Length").fill(str(length))
    page.get_by_label("Seed").fill("" if seed is None else str(seed))
    page.get_by_role("button", name="Write").click()
    return drawn(page)


def drawn(page: Page) -> str:
    expect(page.locator("#stop")).to_be_disabled()
    expect(page.locator("#picture")).to_be_visible()
    return page.locator("#text").text_content() or ""


def begin_endless(page: Page) -> None:
    """The likeliest tokens, of which `</s>` is never one: see `tiny`."""
    page.locator("#temperature").fill("0")
    page.get_by_label("Length").fill(str(LIMIT))
    page.get_by_role("textbox", name="Prompt").fill("Once")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#said")).to_have_text("Writing …")
    expect(page.locator("#tokens")).to_have_text(re.compile(r"\d\d tokens"))


def figures(port: int, text: str) -> dict[str, Any]:
    """What the server says of a text's time constants."""
    status, found = ask(port, "/liquid/time_constants", {"text": text})
    assert status == 200
    return found


def rough(number: float) -> str:
    """As the page shows it: three digits."""
    places = max(0, 2 - int(f"{number:.2e}".split("e")[1]))
    shown = f"{float(f'{number:.2e}'):,.{places}f}"
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


def readout(found: dict[str, Any], layer: int, token: int, unit: str = "tokens") -> str:
    low, median, high = (rough(x) for x in found["time_constants"][layer][token])
    place = f"{found['layers'][layer]}, token {token + 1} of {len(found['tokens'])}"
    return f"{place}: median {median} {unit}, quartiles {low} and {high}"


LIT = "() => [...CSS.highlights.get('lit') ?? []].map(String).join('')"
RAMP = [(250, 232, 180), (190, 219, 152), (104, 184, 166), (38, 130, 171), (56, 72, 148), (44, 22, 78)]


def ramp(constant: float) -> list[int]:
    """The colour of a time constant, in gaps."""
    place = max(0.0, min(5.0, math.log10(constant)))
    i = min(int(place), 4)
    pairs = zip(RAMP[i], RAMP[i + 1], strict=True)
    return [int(a + (b - a) * (place - i) + 0.5) for a, b in pairs]


def whole(page: Page) -> str:
    """The text with all of its prompt."""
    if page.locator("#unfold[aria-expanded=false]").is_visible():
        page.locator("#unfold").click()
    return page.locator("#text").text_content() or ""


def command(page: Page) -> str:
    """The line for curl."""
    if page.locator("#curl").is_hidden():
        page.locator("#api summary").click()
    expect(page.locator("#curl")).to_contain_text("curl")
    return page.locator("#curl").text_content() or ""

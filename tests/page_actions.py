"""What a user does on the server's page, and what it then shows."""

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

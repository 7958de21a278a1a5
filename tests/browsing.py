"""A real browser, where there is one, and pages of servers in it that tell what goes wrong in them."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from serving import NAME

NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next((found for name in NAMES if (found := shutil.which(name))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason=f"needs a browser, one of {', '.join(NAMES)}")

QUIET = ["gpu", "quic", "background-networking", "component-update", "sync"]
ARGS = ["--no-first-run", *(f"--disable-{what}" for what in QUIET)]


@contextmanager
def launched() -> Iterator[Any]:
    """A browser."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=30_000)
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    with sync_playwright() as playwright:
        args = [*ARGS, "--no-sandbox"] if root else ARGS
        browser = playwright.chromium.launch(executable_path=BROWSER, args=args)
        yield browser
        browser.close()


class Visits:
    """The pages that a test opens, in `context` unless it asks for its own."""

    def __init__(self, browser: Any, context: Any):
        self.browser, self.context = browser, context
        self.own: list[Any] = []
        self.pages: list[Any] = []
        self.wrong: list[str] = []

    def __call__(self, port: int, name: str = NAME, path: str = "", **how: Any) -> Any:
        """The page of a server once it shows `name`; options as for a context of playwright."""
        from playwright.sync_api import expect

        context = self.context
        if how:
            context = self.browser.new_context(**how)
            self.own.append(context)
        page, home = context.new_page(), f"http://127.0.0.1:{port}/"
        self.pages.append(page)
        page.on("console", self._watched)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("request", lambda r: r.url.startswith((home, "data:")) or self.wrong.append(r.url))
        page.goto(home + path)
        expect(page.locator("#name")).to_have_text(name)
        return page

    def _watched(self, message: Any) -> None:
        if message.type == "error" and "Failed to load resource" not in message.text:  # of a refusal: meant
            self.wrong.append(message.text)

    def close(self) -> None:
        """Nothing is kept for the next test."""
        for page in self.pages:
            page.evaluate("() => { localStorage.clear(); sessionStorage.clear(); }")
            page.close()
        for context in self.own:
            context.close()

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
    """Visits of a test to pages of servers: in `page`, or in a page of its own for options of a context.

    Attributes:
        wrong: what has gone wrong in the pages, or gone elsewhere.
    """

    def __init__(self, browser: Any, page: Any):
        self.browser, self.page, self.port = browser, page, 0
        self.own: list[Any] = []
        self.wrong: list[str] = []
        self._watch(page)

    def __call__(self, port: int, name: str = NAME, path: str = "", **how: Any) -> Any:
        """The page of a server once it shows `name`."""
        from playwright.sync_api import expect

        page, self.port = self.page, port
        if how:
            self.own.append(self.browser.new_context(**how))
            page = self.own[-1].new_page()
            self._watch(page)
        page.goto(f"{self._home}{path}")
        expect(page.locator("#name")).to_have_text(name)
        return page

    @property
    def _home(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    @property
    def _watchers(self) -> dict[str, Any]:
        return {"console": self._of_console, "pageerror": self._of_error, "request": self._of_request}

    def _watch(self, page: Any) -> None:
        for event, watcher in self._watchers.items():
            page.on(event, watcher)

    def _of_console(self, message: Any) -> None:
        if message.type == "error" and "Failed to load resource" not in message.text:  # of a refusal: meant
            self.wrong.append(message.text)

    def _of_error(self, error: Any) -> None:
        self.wrong.append(str(error))

    def _of_request(self, request: Any) -> None:
        if not request.url.startswith((self._home, "data:", "about:")):
            self.wrong.append(request.url)

    def close(self) -> None:
        """Nothing is kept for the next test."""
        self.page.unroute_all()
        if self.page.url != "about:blank":
            self.page.evaluate("() => { localStorage.clear(); sessionStorage.clear(); }")
            self.page.goto("about:blank")
        for event, watcher in self._watchers.items():
            self.page.remove_listener(event, watcher)
        for context in self.own:
            context.close()

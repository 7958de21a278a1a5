"""The web page: one document, made of the files in web/, with the headers that restrict what a browser may do
with it."""

import base64
import hashlib
import re
from importlib.resources import files

from fastapi.responses import HTMLResponse

MODULES = (
    "storage",
    "words",
    "dom",
    "server",
    "sheet",
    "picture",
    "chances",
    "settings",
    "history",
    "states",
    "api",
    "writing",
    "main",
)
"""The modules of the script: each imports only from those before it, so they can be joined."""


def page() -> HTMLResponse:
    """The page with its content security policy."""
    text = document()
    return HTMLResponse(text, headers=_headers(text))


def document() -> str:
    """The page as one HTML document, with its style, script and words in it."""
    text = _read("page.html")
    joined = "\n".join(_read(f"{name}.js") for name in MODULES)
    script = re.sub(r"^(import .*\n|export )", "", joined, flags=re.MULTILINE)
    for tag, content in (
        ("<style>", _read("page.css")),
        ('<script id="words" type="application/json">', _read("words.json")),
        ('<script type="module">', script),
    ):
        before, after = text.split(tag)
        text = f"{before}{tag}\n{content}{after}"
    return text


def _read(name: str) -> str:
    return (files("liquidlm.serve") / "web" / name).read_text(encoding="utf-8")


def _headers(page: str) -> dict[str, str]:
    """A browser may run the page's own script and style, and call this server. Text never becomes markup
    (trusted types)."""
    own = [
        f"{tag}-src 'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for tag, text in re.findall(r"<(script|style)(?: type=\"module\")?>(.*?)</\1>", page, re.DOTALL)
    ]
    rules = ["default-src 'none'", *own, "connect-src 'self'", "img-src data:", "base-uri 'none'"]
    rules += ["form-action 'none'", "frame-ancestors 'none'"]
    rules += ["require-trusted-types-for 'script'", "trusted-types 'none'"]
    return {
        "Content-Security-Policy": "; ".join(rules),
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }

"""The web page, with the headers that restrict what a browser may do with it."""

import base64
import hashlib
import re
from importlib.resources import files

from fastapi.responses import HTMLResponse


def page() -> HTMLResponse:
    """page.html with its content security policy."""
    text = (files("liquidlm.serve") / "page.html").read_text(encoding="utf-8")
    return HTMLResponse(text, headers=_headers(text))


def _headers(page: str) -> dict[str, str]:
    """A browser may run the page's own script and style, and call this server. Text never becomes markup
    (trusted types)."""
    own = [
        f"{tag}-src 'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for tag, text in re.findall(r"<(script|style)>(.*?)</\1>", page, re.DOTALL)
    ]
    rules = ["default-src 'none'", *own, "connect-src 'self'", "img-src data:", "base-uri 'none'"]
    rules += ["form-action 'none'", "frame-ancestors 'none'"]
    rules += ["require-trusted-types-for 'script'", "trusted-types 'none'"]
    return {
        "Content-Security-Policy": "; ".join(rules),
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }

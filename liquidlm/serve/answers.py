"""Error responses in OpenAI's form."""

import json

from starlette.responses import Response

KINDS = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error", 503: "server_error"}

LONGEST_MESSAGE = 1000


def error_body(status: int, message: str, param: str | None = None, code: str | None = None) -> dict:
    """The body of an error response. A message never repeats much of what a client sent."""
    if len(message) > LONGEST_MESSAGE:
        message = f"{message[:LONGEST_MESSAGE]}…"
    kind = KINDS.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def refusal(
    status: int,
    message: str,
    param: str | None = None,
    code: str | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    """An error response with its body and headers."""
    # json.dumps escapes: the message may quote text that UTF-8 cannot encode.
    body = json.dumps(error_body(status, message, param, code))
    return Response(body, status, headers, "application/json")

"""Answers that say what is wrong, in OpenAI's form."""

import json

from starlette.responses import Response

KINDS = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error", 503: "server_error"}


def error_body(status: int, message: str, param: str | None = None, code: str | None = None) -> dict:
    kind = KINDS.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def refusal(
    status: int,
    message: str,
    param: str | None = None,
    code: str | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    # Escaped: the message may quote what is no UTF-8.
    body = json.dumps(error_body(status, message, param, code))
    return Response(body, status, headers, "application/json")

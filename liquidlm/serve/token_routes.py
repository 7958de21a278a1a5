"""The paths of the tokenizer: text to tokens, and back."""

import asyncio
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request
from starlette.responses import Response

from .models import Models
from .parsing import body_description, parsed
from .threads import unless_left
from .token_schema import DetokenizeRequest, DetokenizeResponse, TokenizeRequest, TokenizeResponse


def add_token_routes(app: FastAPI, models: Models, guarded: dict[str, Any]) -> None:
    """Routes of the tokenizer; `guarded` are the options of routes that need the API key."""
    values = models.limits.values

    @app.post(
        "/tokenize",
        response_model=TokenizeResponse,
        openapi_extra=body_description(TokenizeRequest),
        **guarded,
    )
    async def tokenize(
        asked: Annotated[TokenizeRequest, Depends(parsed(TokenizeRequest, values))], request: Request
    ) -> Response:
        """The tokens of a text."""
        serving = models.of(asked.model)
        read = await unless_left(request, serving.prompts.text(asked.prompt))
        if read is None:
            return Response(status_code=499)
        ids = read.ids if asked.add_special_tokens else read.ids[read.added :]

        def answer() -> Response:
            tokens = ids.tolist()
            shown = [serving.tokenizer.token_bytes(i).decode(errors="replace") for i in tokens]
            found = TokenizeResponse(
                count=len(tokens),
                max_model_len=serving.card.max_model_len,
                tokens=tokens,
                token_strs=shown if asked.return_token_strs else None,
            )
            return Response(found.model_dump_json(), media_type="application/json")

        return await asyncio.to_thread(answer)

    @app.post(
        "/detokenize",
        response_model=DetokenizeResponse,
        openapi_extra=body_description(DetokenizeRequest),
        **guarded,
    )
    async def detokenize(
        asked: Annotated[DetokenizeRequest, Depends(parsed(DetokenizeRequest, values))],
    ) -> DetokenizeResponse:
        """The text of tokens. Bytes that are not whole characters become U+FFFD."""
        decode = models.of(asked.model).tokenizer.decode
        return DetokenizeResponse(prompt=await asyncio.to_thread(decode, asked.tokens))

    @app.api_route("/v1/embeddings", methods=["GET", "POST"], include_in_schema=False)
    async def embeddings() -> None:
        raise HTTPException(
            404,
            "this server has no embeddings: its models continue text; use a model for embeddings, or"
            " keep a state with POST /liquid/states",
        )

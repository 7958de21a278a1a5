"""The chat format of a folder: a template in its tokenizer, which transformers and the server use."""

import copy
import json
from os import PathLike
from pathlib import Path
from typing import Any

from transformers import TokenizersBackend

from ..errors import LiquidError, first_line

TEMPLATE = """\
{%- macro said(text) -%}
    {%- set lines = '\n'.join(text.casefold().splitlines()) -%}
    {%- if '\nuser' in lines or '\nassistant' in lines -%}
        {%- for line in text.splitlines(true) -%}
            {%- if line[0] in 'uUaA' and not loop.first -%}
                {%- set start = line.casefold() -%}
                {%- set rest = start[4:] if start.startswith('user') else start[9:] -%}
                {%- set speaks = start.startswith(('user', 'assistant')) and rest.lstrip().startswith(':') -%}
                {{- ' ' if speaks -}}
            {%- endif -%}
            {{- line -}}
        {%- endfor -%}
    {%- else -%}
        {{- text -}}
    {%- endif -%}
{%- endmacro -%}
{%- for message in messages -%}
    {%- if message.content is string -%}
        {%- set text = message.content -%}
    {%- else -%}
        {%- set text = (message.content or []) | map(attribute='text') | join -%}
    {%- endif -%}
    {{- '' if loop.first else '\\n' -}}
    {%- if message.role in ('system', 'developer') -%}
        {{- text -}}
    {%- elif message.role == 'user' -%}
        {{- 'User: ' ~ said(text) -}}
    {%- elif message.role == 'assistant' -%}
        {{- 'Assistant: ' ~ said(text) -}}
    {%- else -%}
        {{- raise_exception('a turn is of system, developer, user or assistant, not of ' ~ message.role) -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '\\nAssistant:' if messages else 'Assistant:' -}}
{%- endif -%}
"""
"""A line for each turn, which begins with its speaker. Instructions have none. A line within a turn that
would begin another turn gets a space before it: nobody speaks for someone else."""

FILE, CONFIG = "chat_template.jinja", "tokenizer_config.json"


def chat_template(folder: str | PathLike[str]) -> str:
    """The chat template of a folder with a tokenizer; ours if it has none.

    Raises:
        LiquidError: it cannot be read.
    """
    file, config = Path(folder, FILE), Path(folder, CONFIG)
    try:
        if file.is_file():
            return file.read_text(encoding="utf-8")
        if config.is_file():
            found = json.loads(config.read_text(encoding="utf-8")).get("chat_template")
            if isinstance(found, str):
                return found
    except (OSError, ValueError, AttributeError) as error:
        raise LiquidError(
            f"the chat template in {str(folder)!r} cannot be read: {first_line(error)}"
        ) from error
    return TEMPLATE


class LiquidTokenizer(TokenizersBackend):
    """The tokenizer of a liquid model for transformers. A conversation begins with `<s>`, like every prompt.

    >>> from liquidlm import LEDTokenizerWrapper
    >>> tokenizer = LEDTokenizerWrapper.bytes().backend
    >>> talk = [{"role": "user", "content": "Hi"}]
    >>> tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=True)
    'User: Hi\\nAssistant:'
    >>> tokenizer.apply_chat_template(talk, return_dict=False)[:3]
    [0, 89, 119]
    """

    _starts = False
    """Whether `<s>` is put before every text, whatever the call says."""

    def apply_chat_template(self, *args: Any, **kwargs: Any) -> Any:
        """As in transformers."""
        starting = copy.copy(self)
        starting._starts = True
        return super(LiquidTokenizer, starting).apply_chat_template(*args, **kwargs)

    def __call__(self, text: Any = None, *args: Any, add_special_tokens: bool = True, **kwargs: Any) -> Any:
        """As in transformers."""
        if self._starts:
            # A template of someone else may write it too. In a text it would be three characters.
            start = str(self.bos_token)
            texts = [one.removeprefix(start) for one in ([text] if isinstance(text, str) else text)]
            text = texts[0] if isinstance(text, str) else texts
        return super().__call__(text, *args, add_special_tokens=add_special_tokens or self._starts, **kwargs)

"""What a model does at the events of a text, as one page that needs no other file: `inspect --out x.html`."""

import math
from html import escape
from pathlib import Path

from ..runtime.files import write_text
from .anatomy_figure import (
    DARK,
    TINT,
    TINTS,
    Palette,
    constant_time_constants,
    full_bits,
    strength,
    svg,
)
from .inspection import Anatomy
from .time_axis import clock_text, duration_text, is_dated

STYLE = """\
body { margin: 0 auto; max-width: 72rem; padding: 1.5rem 1rem 4rem; background: var(--paper);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.3rem; margin: 0; } h2 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
p { color: var(--muted); margin: .3rem 0; max-width: 50rem; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th { position: sticky; top: 0; background: var(--paper); color: var(--muted); font-weight: 500;
  text-align: right; border-bottom: 1px solid var(--rule); }
td { color: var(--muted); text-align: right; vertical-align: top; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
th, td { padding: .15rem .7rem .15rem 0; }
th:last-child, td:last-child { text-align: left; padding-right: 0; }
td:last-child { color: var(--ink); white-space: pre-wrap; overflow-wrap: anywhere; width: 99%; }
tr:hover td { background: color-mix(in srgb, var(--rule) 35%, transparent); }
.over { overflow-x: auto; } .over svg { min-width: 44rem; width: 100%; height: auto; display: block; }
i { font-style: normal; border-radius: 3px; }
"""

LIGHT_OPACITY, DARK_OPACITY = 0.7, 0.5
"""Of the strongest tint: more would hide its word, which is dark on a light page and light on a dark one."""


def write_page(found: Anatomy, file: Path, title: str) -> Path:
    """Write the page: the list of the events with tinted words, and the figures over time. Returns its path.

    Args:
        found: of `examine`.
        file: replaced all or nothing.
        title: what was read, and by which model.

    Raises:
        LiquidError: the file cannot be written.
    """
    return write_text(file, page(found, title))


def page(found: Anatomy, title: str) -> str:
    """The page as text; see `write_page`."""
    full, name = full_bits(found), escape(title)
    rows = "\n".join(_row(found, number, full) for number in range(len(found.times)))
    scale = "".join(f'<i class="t{each}">&nbsp;&nbsp;</i>' for each in range(1, TINTS + 1))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{name}</title>
<style>
{_colours()}{STYLE}</style>
</head>
<body><main>
<h1>{name}</h1>
<p>Events {found.first} to {found.first + len(found.times) - 1}. A surprise of b bits means a probability of
1 in 2<sup>b</sup>, given all the text before. The surprise of a gap is that of a gap at least as short, or at
least as long. Tint of a word: {scale} 0 to {full:.0f} bits and more.</p>
<h2>Events</h2>
<table>
<thead><tr><th>event</th><th>time</th><th>gap, bits</th><th>text, bits</th><th>text</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
<h2>Over time</h2>
<div class="over" role="region" tabindex="0" aria-label="Figures over time">
{svg(found)}</div>
{_constants(found)}</main></body>
</html>
"""


def _row(found: Anatomy, number: int, full: float) -> str:
    """A row of the list."""
    time = clock_text(float(found.times[number]), is_dated(float(found.times[0])))
    gap = float(found.gap_bits[number])
    gap_text = "–" if math.isnan(gap) else f"{gap:.1f}"
    text = "".join(_word(word, bits, full) for word, bits in _trimmed(found.words[number]))
    cells = (str(found.first + number), time, gap_text, f"{found.text_bits[number]:.0f}", text)
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _trimmed(words: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """The words without white space at the beginning of the first."""
    return [(words[0][0].lstrip(), words[0][1]), *words[1:]] if words else []


def _word(word: str, bits: float, full: float) -> str:
    """A word with its tint; its bits are shown where the pointer is."""
    bare = word.lstrip()
    level, blank = strength(bits, full), escape(word[: len(word) - len(bare)])
    tint = f' class="t{level}"' if level else ""
    return f'{blank}<i{tint} title="{bits:.1f} bits">{escape(bare)}</i>' if bare else blank


def _constants(found: Anatomy) -> str:
    """A sentence on the time constants that are not drawn, since they hardly change."""
    kept = constant_time_constants(found).items()
    each = "; ".join(
        f"{name}: {duration_text(middle)} ({duration_text(low)} to {duration_text(high)})"
        for name, (low, middle, high) in kept
    )
    return f"<p>Time constants that hardly change, median and quartiles: {each}.</p>\n" if each else ""


def _colours() -> str:
    """The colours by name, light and dark."""
    light, dark = (_names(palette) for palette in (Palette(), DARK))
    in_the_dark = f"@media (prefers-color-scheme: dark) {{\n:root {{ {dark} }}\n{_tints(DARK_OPACITY)}}}\n"
    return f":root {{ {light} }}\n{_tints(LIGHT_OPACITY)}{in_the_dark}"


def _tints(most: float) -> str:
    """The classes of the tints, up to an opacity."""
    levels = range(1, TINTS + 1)
    return "".join(
        f".t{level} {{ background: {TINT}{round(255 * most * level / TINTS):02x}; }}\n" for level in levels
    )


def _names(palette: Palette) -> str:
    plain = {name: value for name, value in palette._asdict().items() if isinstance(value, str)}
    series = {f"series{number}": colour for number, colour in enumerate(palette.series)}
    return " ".join(f"--{name}: {value};" for name, value in {**plain, **series}.items())

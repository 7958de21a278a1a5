"""What `liquidlm times` shows of a file."""

from ..errors import counted
from ..text.clock.stamps import format_stamp
from ..text.gaps import Bin
from ..text.times_report import TimesReport, date_of

BAR = 40
"""Width of the longest bar of the histogram, in characters."""
UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
"""The units of lengths of time, the longest first."""


def report_text(report: TimesReport) -> str:
    """A report as lines of text.

    Args:
        report: of a file that has been read to its end.
    """
    figures, facts = report.as_dict(), report.facts
    documents = f" in {counted(report.documents, 'document')}" if report.documents != 1 else ""
    lines = [facts.name, f"  kind      {facts.kind}"]
    if report.first is not None and report.last is not None:
        lines += [
            f"  first     {_moment(report.first)}",
            f"  last      {_moment(report.last)} ({length(report.last - report.first)} later)",
        ]
    lines.append(f"  events    {facts.events:,}{documents}")
    if facts.untimed:
        lines.append(f"  no time   {counted(facts.untimed, 'line')}: each goes on with the event before it")
    lines += [f"  note      {note}" for note in facts.notes()]
    if report.gaps:
        step = length(figures["step"]) if figures["step"] else "none found"
        middle, longest = length(figures["median_gap"]), length(figures["longest_gap"])
        lines += [f"  step      {step}", f"  gaps      median {middle}, longest {longest}"]
        lines += _bars([Bin(**each) for each in figures["gaps"]])
    return "\n".join(lines)


def length(seconds: float) -> str:
    """A length of time in a unit that suits it.

    >>> length(0.25), length(90.0), length(7200.0), length(0.0)
    ('250 ms', '1.5 min', '2 h', '0 s')
    """
    unit, name = next((each for each in UNITS if seconds >= each[0]), (1.0, "s"))
    return f"{seconds / unit:.4g} {name}"


def _moment(time: float) -> str:
    """A time as its file may have it: a date with its zone, or a clock."""
    if (date := date_of(time)) is None:
        return f"{format_stamp(time)[1:-1]} ({time:.15g} s)"
    day, clock = date.removesuffix("+00:00").split("T")
    return f"{day} {clock.rstrip('0') if '.' in clock else clock} UTC"


def _bars(bins: list[Bin]) -> list[str]:
    """The histogram, from the first bin with gaps to the last."""
    filled = [number for number, each in enumerate(bins) if each.number]
    shown, most = bins[filled[0] : filled[-1] + 1], max(each.number for each in bins)
    labels = [_label(each) for each in shown]
    return [
        f"  {label:>17}  {'█' * -(-each.number * BAR // most):{BAR}} {each.number:,}"
        for label, each in zip(labels, shown, strict=True)
    ]


def _label(each: Bin) -> str:
    if each.to is None:
        return f"over {length(each.above)}"
    return f"up to {length(each.to)}" if each.to else "0"

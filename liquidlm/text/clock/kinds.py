"""The forms that times have: each is a pattern, and what its parts mean.

Groups of a pattern: Y year, y year of two digits, m month, b month by name, d day, j day of the year, w week
and wd day of the week (ISO 8601), H M S hour, minute and second, f decimals of the second, p half of the day,
z and z2 zone; s a number since 1970, t and t9 TAI64N, n a number since the beginning with its unit u, c a
clock since the beginning.
"""

from dataclasses import dataclass, replace
from functools import cache

from .words import HALF, MONTH, WEEKDAY
from .zones import ZONE, ZONE_AGAIN, ZONE_AT_ONCE


@dataclass(frozen=True)
class Kind:
    """A form of times.

    Attributes:
        key: its name in state files.
        pattern: a regular expression.
        span: what its times tell: "date" (a year too), "year" (a date without a year), "day" (the time of
            day), "epoch" (a number since 1970) or "start" (a time since the beginning).
        order: of day, month and year, where the same text could be read in another order; a word of ORDERS.
        family: kinds that read the same text in other orders have the same family.
        usual: the order that is usual for this family; it is taken where nothing in the file decides.
        anywhere: whether it may stand after other text.
        weak: whether it counts only where no other kind does: dates without a time, whole numbers.
        given: whether the user says that the times have this form.
        zones_apart: whether a zone may stand after a space.
    """

    key: str
    pattern: str
    span: str = "date"
    order: str = ""
    family: str = ""
    usual: bool = False
    anywhere: bool = True
    weak: bool = False
    given: bool = False
    zones_apart: bool = True

    @property
    def zoned(self) -> bool:
        """Whether a zone may follow."""
        return ZONE in self.pattern

    def without_zones_apart(self) -> "Kind":
        """This kind, where what follows after a space is no zone."""
        return replace(self, pattern=self.pattern.replace(ZONE, ZONE_AT_ONCE), zones_apart=False)


ORDERS = {
    "dmy": "day first",
    "mdy": "month first",
    "ymd": "year first",
    "dm": "day first",
    "md": "month first",
}

BEFORE = r"(?<![\w./+])(?<!\d:)(?<!\w-)"
"""What does not stand before a date."""
BEFORE_NAME = r"(?<![\w/+])(?<!\w[.-])(?<!\d:)"
BEFORE_NUMBER = r"(?<![\w./+#$€-])(?<!\d:)"
AFTER = r"(?!\w|[:./+-]\d)"
AT = r"(?:at|a las|a la|à|às|@)"
SEP = rf"(?:[Tt_]|\s{{1,3}}|\s?[,;|\-–]\s{{0,2}}|::?|,?\s{{1,2}}{AT}\s{{1,2}}|\"?,?\s{{1,2}}\w*[Tt]ime=\"?)"
COMMA = r",(?=\d{3}(?:\d{3}){0,2}(?!\d)|\d{1,12}(?![\d,]))"
"""A comma before decimals; in a table, one before another cell does not count."""
SECOND_MORE = rf"(?:(?:\.|{COMMA})(?P<f>\d{{1,12}})|(?P<f2>:\d{{1,3}}))?"
CLOCK = rf"(?P<H>[0-2]?\d):(?P<M>\d\d)(?::(?P<S>\d\d){SECOND_MORE})?"
CLOCK_WITH_SECONDS = rf"(?P<H>[0-2]?\d):(?P<M>\d\d):(?P<S>\d\d){SECOND_MORE}"
CLOCK_ALONE = CLOCK_WITH_SECONDS.replace("[0-2]?", r"\d?\d?").replace("{1,3}", "{3}")
"""It may count hours since the beginning; 00:00:00:05 is a clock of days, hours, minutes and seconds."""
LOOSE_CLOCK = r"(?P<H>[0-2]?\d):(?P<M>\d\d?):(?P<S>\d\d?)(?P<f2>:\d{1,3})"
DOTTED_CLOCK = rf"(?P<H>[0-2]?\d)\.(?P<M>\d\d)\.(?P<S>\d\d){SECOND_MORE}"
DASHED_CLOCK = r"(?P<H>[0-2]\d)-(?P<M>\d\d)-(?P<S>\d\d)(?:\.(?P<f>\d{1,12}))?"
DIGITS = r"(?P<H>[0-2]\d)(?P<M>[0-5]\d)(?:(?P<S>[0-6]\d)(?:[.,]?(?P<f>\d{1,12}))?)?"
DIGITS_WITH_SECONDS = r"(?P<H>[0-2]\d)(?P<M>[0-5]\d)(?P<S>[0-6]\d)(?:[.,](?P<f>\d{1,12}))?"
HALVES = rf"(?:\s?(?P<p>{HALF})(?!\w))?"
END = rf"{HALVES}(?:(?P<z>{ZONE}){ZONE_AGAIN})?{AFTER}"

YEAR = r"(?P<Y>(?:19|20)\d\d)"
ISO = r"(?P<Y>\d{4})-(?P<m>\d\d?)-(?P<d>\d\d?)"
YEAR_FIRST = rf"{YEAR}(?P<q>[-/.:_])(?P<m>\d\d?)(?P=q)(?P<d>\d\d?)"
DIGITS8 = rf"{YEAR}(?P<m>[01]\d)(?P<d>[0-3]\d)"
ORDINAL = rf"{YEAR}[-./:](?P<j>[0-3]\d\d)"
ISO_WEEK = rf"{YEAR}-?W(?P<w>[0-5]\d)-?(?P<wd>[1-7])"
WEEK = rf"(?:{WEEKDAY}\.?,?\s+)?"
OF = r"(?:\s+(?:de\s+|del\s+)?|[-/.])"
ST = r"(?:st|nd|rd|th|º|\.)?"
DAY = r"(?P<d>\d\d?)"
NAME = rf"(?P<b>{MONTH})\.?"
YEAR_AFTER = rf"(?:{YEAR}|['’]?(?P<y>\d\d)(?!\d|:\d\d:\d\d(?!:)))"
DAY_MONTH_YEAR = rf"{WEEK}{DAY}{ST}{OF}?{NAME},?{OF}?{YEAR_AFTER}"
MONTH_DAY_YEAR = rf"{WEEK}{NAME}[ ./-]\s?{DAY}{ST}(?:,?\s+|[-/]){YEAR}"
YEAR_MONTH_DAY = rf"{YEAR}[-/. ]{NAME}[-/. ]\s?{DAY}"


def _numbers(first: str, second: str, year: str) -> str:
    """A date of three numbers."""
    return rf"{WEEK}(?P<{first}>\d\d?)(?P<q>[-/.])(?P<{second}>\d\d?)(?P=q){year}"


def _dates() -> list[tuple[str, str, str]]:
    """Dates with a year: key, pattern, and order where there are others."""
    two = r"(?P<y>\d\d)(?!\d)"
    return [
        ("2026-01-31", WEEK + ISO, ""),
        ("2026/01/31", WEEK + YEAR_FIRST, ""),
        ("31/01/2026", _numbers("d", "m", YEAR), "dmy"),
        ("01/31/2026", _numbers("m", "d", YEAR), "mdy"),
        ("26/01/31", WEEK + r"(?P<y>\d\d)(?P<q>[-/.])(?P<m>\d\d)(?P=q)(?P<d>\d\d)(?!\d)", "ymd"),
        ("31/01/26", _numbers("d", "m", two), "dmy"),
        ("01/31/26", _numbers("m", "d", two), "mdy"),
        ("31 Jan 2026", DAY_MONTH_YEAR, ""),
        ("Jan 31, 2026", MONTH_DAY_YEAR, ""),
        ("2026 Jan 31", YEAR_MONTH_DAY, ""),
        ("2026-031", ORDINAL, ""),
        ("20260131", DIGITS8, ""),
        ("2026-W05-6", ISO_WEEK, ""),
    ]


FAMILIES = {
    **dict.fromkeys(("31/01/2026", "01/31/2026"), "n/n/Y"),
    **dict.fromkeys(("26/01/31", "31/01/26", "01/31/26"), "n/n/n"),
}


def sketch(kind: Kind) -> str:
    """A short pattern that every text with a time of this kind has: most kinds need not be tried."""
    if "Jan" in kind.key:
        return MONTH
    for shape, pattern in SKETCHES.items():
        if shape in kind.key:
            return pattern
    return r"\d"


SKETCHES = {
    "2026-01-31": r"\d{4}-\d",
    "2026/01/31": r"(?:19|20)\d\d[-/.:_]\d",
    "2026-031": r"(?:19|20)\d\d[-./:]\d{3}",
    "2026031": r"(?:19|20)\d{5}T",
    "2026-W05": r"(?:19|20)\d\d-?W",
    "/2026": r"\d[-/.](?:19|20)\d\d",
    "20260131": r"(?:19|20)\d{6}",
    "26/01/31": r"(?<!\d)\d\d?([-/.])\d\d?\1\d\d(?!\d)",
    "31/01/26": r"(?<!\d)\d\d?([-/.])\d\d?\1\d\d(?!\d)",
    "01/31/26": r"(?<!\d)\d\d?([-/.])\d\d?\1\d\d(?!\d)",
    "260131": r"(?<!\d)\d{6}(?!\d)",
    "17698": r"\d{9}",
    "@4000": r"@4",
    "0131": r"[01]\d[0-3]\d[ /]",
    "01-31 ": r"\d-\d",
    "31-01 ": r"\d-\d",
    "01/31 ": r"\d/\d",
    "31/01 ": r"\d/\d",
    "01.31 ": r"\d\.\d",
    "31.01 ": r"\d\.\d",
}


@cache
def kinds() -> dict[str, Kind]:
    """Every kind by its key; where two find the same text, the first counts."""
    made = [*_dated(), *_packed(), *_time_first(), *_year_at_the_end(), *_without_year(), *_rest()]
    return {kind.key: kind for kind in made}


def _dated() -> list[Kind]:
    """A date, and then a time of day."""
    made = []
    for key, date, order in _dates():
        family = FAMILIES.get(key, "")
        before = BEFORE_NAME if "Jan" in key else BEFORE
        made.append(Kind(f"{key} 12:00:00", f"{before}{date}{SEP}{CLOCK}{END}", "date", order, family))
    for key, date, order in (_dates()[i] for i in (0, 1, 2, 3, 7)):
        family = f"{FAMILIES[key]} 12.00.00" if order else ""
        pattern = f"{BEFORE_NAME}{date}(?:[ T_-]){DOTTED_CLOCK}{END}"
        made.append(Kind(f"{key} 12.00.00", pattern, "date", order, family))
    return made


def _packed() -> list[Kind]:
    """Digits without signs between them."""
    six = [("ymd", "y", "m", "d"), ("dmy", "d", "m", "y"), ("mdy", "m", "d", "y")]
    made = [
        Kind("20260131 0:0:0:0", f"{BEFORE}{DIGITS8}[-_ T]{LOOSE_CLOCK}{AFTER}"),
        Kind("20260131 120000", f"{BEFORE}{DIGITS8}[T_ -]?{DIGITS}{END}"),
        Kind("2026031T120000", rf"{BEFORE}{YEAR}(?P<j>[0-3]\d\d)T{DIGITS}{END}"),
        Kind("2026-W05-6T120000", f"{BEFORE}{ISO_WEEK}T{DIGITS}{END}"),
        Kind("1:20260131:120000", rf"(?:(?<=^\d:)|(?<=\d\d:)){DIGITS8}:{DIGITS_WITH_SECONDS}{END}"),
        Kind("2026-01-31 12-00-00", f"{BEFORE}{ISO}[T_ -]{DASHED_CLOCK}{END}"),
        Kind("2026-01-31 120000", f"{BEFORE}{YEAR_FIRST}[T_ -]{DIGITS_WITH_SECONDS}{END}"),
    ]
    for order, *names in six:
        date = "".join(rf"(?P<{name}>\d\d)" for name in names)
        for key, clock in (("120000", DIGITS_WITH_SECONDS), ("12:00:00", CLOCK_WITH_SECONDS)):
            before, sep = BEFORE_NUMBER, r"(?:[T_-]|\s{1,2})"
            pattern = f"{before}{date}{sep}{clock}{END}"
            made.append(
                Kind(f"260131 {key} {order}", pattern, "date", order, f"nnnnnn {key}", order == "ymd")
            )
    return made


def _time_first() -> list[Kind]:
    """A time of day, and then a date."""
    made = []
    for key, date, order in _dates()[:9]:
        family = f"time {FAMILIES[key]}" if key in FAMILIES else ""
        half_and_zone = rf"{HALVES}(?:(?P<z>{ZONE}))?"
        pattern = (
            rf"{BEFORE_NUMBER}{CLOCK}{half_and_zone}(?:,?\s{{1,2}}|\s?[-–|;]\s?)(?:on\s|del?\s)?{date}{AFTER}"
        )
        made.append(Kind(f"12:00:00 {key}", pattern, "date", order, family))
    return made


def _year_at_the_end() -> list[Kind]:
    zone_2 = rf"(?:(?P<z2>{ZONE}){ZONE_AGAIN})?"
    zone_1 = rf"{HALVES}(?:(?P<z>{ZONE}))?"
    end = rf"{zone_1}\s{YEAR}{zone_2}{AFTER}"
    day_first = rf"{BEFORE_NAME}{WEEK}{DAY}{ST}{OF}{NAME},?\s{{1,2}}{CLOCK_WITH_SECONDS}{end}"
    return [
        Kind(
            "Jan 31 12:00:00 2026",
            rf"{BEFORE_NAME}{WEEK}{NAME}\s{{1,2}}{DAY},?\s{{1,2}}{CLOCK_WITH_SECONDS}{end}",
        ),
        Kind("31 Jan 12:00:00 2026", day_first),
    ]


def _without_year() -> list[Kind]:
    month_day = rf"{WEEK}{NAME}[ /-]\s?{DAY}(?:,?\s{{1,2}}|-|\sat\s){CLOCK}{END}"
    day_month = rf"{WEEK}{DAY}{ST}{OF}{NAME}(?:,?\s{{1,2}}|-|\sat\s|\sa las\s){CLOCK}{END}"
    level = r"(?:(?<=^[IWEFDVC])|(?<=[\s\[][IWEFDVC]))"
    made = [
        Kind("Jan 31 12:00:00", BEFORE_NAME + month_day, "year"),
        Kind("31 Jan 12:00:00", BEFORE_NAME + day_month, "year"),
        Kind(
            "I0131 12:00:00",
            rf"{level}(?P<m>[01]\d)(?P<d>[0-3]\d)\s{{1,2}}{CLOCK_WITH_SECONDS}{AFTER}",
            "year",
        ),
        Kind("I20260131 12:00:00", rf"{level}{DIGITS8}\s{{1,2}}{CLOCK_WITH_SECONDS}{AFTER}"),
        Kind(
            "I260131 12:00:00",
            rf"{level}(?P<y>\d\d)(?P<m>[01]\d)(?P<d>[0-3]\d)\s{{1,2}}{CLOCK_WITH_SECONDS}{AFTER}",
        ),
        Kind(
            "0131/120000",
            rf"(?<=[\[:])(?P<m>[01]\d)(?P<d>[0-3]\d)/{DIGITS_WITH_SECONDS}(?!\w)",
            "year",
        ),
    ]
    for key, order, first, second in (("01-31", "md", "m", "d"), ("31-01", "dm", "d", "m")):
        for sign, name in (("-", "-"), ("/", "/"), (r"\.", ".")):
            date = rf"(?P<{first}>\d\d?){sign}(?P<{second}>\d\d?)"
            dot = r"\.?" if name == "." else ""
            pattern = rf"{BEFORE}{date}{dot}(?:,?\s{{1,2}}|[T|-]){CLOCK_WITH_SECONDS}{END}"
            usual = order == "md" and name == "-"  # logcat's
            made.append(
                Kind(f"{key.replace('-', name)} 12:00:00", pattern, "year", order, f"n{name}n", usual)
            )
    return made


def _rest() -> list[Kind]:
    """Numbers since 1970, times of day, clocks since the beginning, dates without a time."""
    point = r"(?:\.|,(?=(?:\d{3}){1,3}(?![\d,])))"
    epoch = rf"{BEFORE_NUMBER}(?P<s>\d{{9,19}})(?:{point}(?P<f>\d{{1,9}}))?(?!\w|[./-]\d|:\d+(?![\d)]))"
    half = rf"{BEFORE_NUMBER}(?P<H>[0-2]?\d):(?P<M>\d\d)(?::(?P<S>\d\d){SECOND_MORE})?\s?(?P<p>{HALF})"
    clock = r"(?P<c>-?(?:\d+:)?(?:\d+:)?\d+:\d\d(?:[.,]\d+)?)(?=[\])]|[:,;]?(?:\s|$))"
    made = [
        Kind("1769860800", epoch, "epoch"),
        Kind("@4000000065ba3a4a", r"@(?P<t>4[0-9a-f]{15})(?P<t9>[0-9a-f]{8})\b", "epoch"),
        Kind("12:00:00 PM", f"{half}(?:(?P<z>{ZONE}))?{AFTER}", "day"),
        Kind("12:00:00", f"{BEFORE_NUMBER}{CLOCK_ALONE}(?:(?P<z>{ZONE}))?{AFTER}", "day"),
        Kind("00:12:31", clock, "start", anywhere=False),
        Kind("12.5", r"(?<=[\[(])\s*(?P<n>-?\d+\.\d+)(?P<u>[mun]?s)?(?=\s*[\])])", "start", anywhere=False),
        Kind("12.345:", rf"{BEFORE_NUMBER}(?P<n>\d+\.\d{{3,9}})(?=:\s)", "start", anywhere=False, weak=True),
        Kind(
            "12",
            r"(?<=[\[(])\s*(?P<n>-?\d+(?:\.\d+)?)(?P<u>[mun]?s)?(?=\s*[\])])",
            "start",
            anywhere=False,
            weak=True,
        ),
    ]
    for key, date, order in _dates()[:10]:
        family = f"date {FAMILIES[key]}" if key in FAMILIES else ""
        if family != "date n/n/n":
            before = BEFORE_NAME if "Jan" in key else BEFORE
            pattern = rf"{before}{date}(?!\w|[:./-]\w|[^\n]{{0,11}}\d)"
            made.append(Kind(key, pattern, "date", order, family, anywhere=False, weak=True))
    return made

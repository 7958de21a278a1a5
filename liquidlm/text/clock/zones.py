"""Time zones, by offset and by name."""

import re
from datetime import UTC, timedelta, timezone, tzinfo
from functools import cache
from zoneinfo import ZoneInfo

from ...errors import LiquidError

HOURS = {
    "Z": 0,
    "UT": 0,
    "UTC": 0,
    "GMT": 0,
    "WET": 0,
    "WEST": 1,
    "BST": 1,
    "CET": 1,
    "CEST": 2,
    "MET": 1,
    "MEST": 2,
    "MEZ": 1,
    "MESZ": 2,
    "EET": 2,
    "EEST": 3,
    "MSK": 3,
    "MSD": 4,
    "TRT": 3,
    "SAST": 2,
    "WAT": 1,
    "CAT": 2,
    "EAT": 3,
    "GST": 4,
    "PKT": 5,
    "NPT": 5.75,
    "ICT": 7,
    "WIB": 7,
    "WITA": 8,
    "WIT": 9,
    "SGT": 8,
    "HKT": 8,
    "AWST": 8,
    "JST": 9,
    "KST": 9,
    "ACST": 9.5,
    "ACDT": 10.5,
    "AEST": 10,
    "AEDT": 11,
    "ChST": 10,
    "NZST": 12,
    "NZDT": 13,
    "HST": -10,
    "AKST": -9,
    "AKDT": -8,
    "PST": -8,
    "PDT": -7,
    "MST": -7,
    "MDT": -6,
    "CDT": -5,
    "EST": -5,
    "EDT": -4,
    "ADT": -3,
    "NST": -3.5,
    "NDT": -2.5,
    "BRT": -3,
    "BRST": -2,
    "UYT": -3,
}
"""Hours ahead of UTC. The abbreviations are those of the tz database (iana.org/time-zones), some in older
releases, and two of German, MEZ and MESZ. Where an old or rare use differs, the common one is taken: EST is
New York's, PST Los Angeles', BST London's."""
AMBIGUOUS = {
    "CST": "Chicago, Shanghai or Havana",
    "IST": "Kolkata, Dublin or Jerusalem",
    "AST": "Halifax or Riyadh",
    "SST": "Pago Pago or Singapore",
}
"""Abbreviations that are usual for several zones."""
REGIONS = (
    "Africa|America|Antarctica|Arctic|Asia|Atlantic|Australia|Brazil|Canada|Chile|Etc|Europe|Indian|Mexico"
    "|Pacific|US"
)
SIGN = "[+\N{MINUS SIGN}-]"
OFFSET = re.compile(rf"(?:GMT|UTC|UT)?\s?({SIGN})(\d{{1,2}})(?::?(\d\d))?(?::?(\d\d))?")
MINUTES = re.compile(rf"({SIGN})(\d{{3}})")


def _zone_patterns() -> tuple[str, str]:
    """A zone after a time, an offset or a name: at once or after a space, and at once only."""
    offset = rf"{SIGN}(?:\d\d:\d\d(?::\d\d)?|\d{{2,4}})(?!\d|[.:]\d)"
    spaced = rf"\s{SIGN}(?:0\d|1[0-4])(?::?(?:00|15|30|45)(?!\d|[.:]\d)|(?=[\s\])]|$))"
    since_utc = rf"(?:GMT|UTC|UT)(?:{SIGN}\d{{1,2}}(?::?\d\d)?|\s{SIGN}\d\d:?\d\d)?(?![\w:]\d|\w)"
    names = rf"(?:{'|'.join(sorted({*HOURS, *AMBIGUOUS}, key=len, reverse=True))})(?![\w/])(?!\[)"
    place = rf"(?:{REGIONS})(?:/[A-Z][\w+-]*)+|(?:EST5EDT|CST6CDT|MST7MDT|PST8PDT)(?!\w)"
    words = r"(?:[A-Z][A-Za-z.]+\s){1,4}(?:Standard|Daylight|Summer)\sTime"
    name = f"(?:{since_utc}|{names}|{place}|{words})"
    at_once = rf"{offset}|z(?![\w/])"
    apart = rf"{at_once}|{spaced}|\s?\({name}\)|\s?\[{name}\]|\s?{name}"
    return apart, rf"{at_once}|\({name}\)|\[{name}\]|{name}"


ZONE, ZONE_AT_ONCE = _zone_patterns()
ZONE_AGAIN = r"(?:\s?\((?:[A-Z]{2,5}|[^()\d]{3,45})\)|\[[A-Z]\w+(?:/[\w+-]+)*\])?"
"""The name of a zone in brackets after its offset."""
WORDS = """
    INFO INF WARN WRN ERROR ERR DEBUG DBG TRACE TRC FATAL FTL NOTE FINE FINER CRIT ALERT EMERG PANIC
    VERB VRB LOG ALL OFF OUT GET PUT POST HEAD PATCH HTTP HTTPS TCP UDP ICMP ARP DNS SQL SSH SSL TLS
    FTP SMTP IMAP POP DHCP NTP API APP SYS CPU GPU RAM USB PCI RPC GC JVM CRON MAIN ROOT TEST HOST
    USER AUTH INIT BOOT EXIT STOP START DONE FAIL PASS SENT RECV SEND OPEN CLOSE READ WRITE LINK NET
    NULL NONE TRUE ALLOW DENY DROP BLOCK JOB TASK EVENT STAT MSG DATA CMD CALL RAS DOWN YES NOT THE
    AND AUDIT BEGIN END RUN SET SYNC LOCK LOAD SAVE INPUT COUNT ABORT FAULT QUIT KILL BIND PORT POOL
    NODE DISK FILE TEXT NEXT LAST FIRST LIST COST BEST REST MUST JUST ACK SYN FIN RST KERN MAIL NEWS
    LPR UUCP ID URL URI JSON XML HTML CSV PDF LDAP SNMP RADIUS VPN NAT WAN LAN WIFI BGP OSPF
"""
"""Words in capitals that are not zones, though they may follow a time."""
CASUAL = frozenset(WORDS.split())
LOWER = {name.lower() for name in (*HOURS, *AMBIGUOUS) if HOURS.get(name) != 0} - {"cat", "eat", "met", "wit"}
"""Names that people also write small, without those that are words, too."""
LIKELY = re.compile(r"\s(?:\(([A-Za-z]{3,5})\)|([A-Za-z]{3,5})(?=[\s\]),]|$))")
FIELD = re.compile(r"""\b(?:tz|time_?zone)=["']?([+-]\d\d?:?\d\d|[A-Z]\w*(?:/[\w+-]+)*)""", re.IGNORECASE)
"""A field of a line that says the zone of its time, such as FortiGate's."""


def looks_like_zone(text: str) -> str | None:
    """The word that begins a text and may be the name of an unknown zone.

    >>> looks_like_zone(" XYZT started"), looks_like_zone(" INFO started")
    ('XYZT', None)
    """
    found = LIKELY.match(text)
    word = (found[1] or found[2]) if found else ""
    if word in LOWER:
        return word
    is_name = word.isupper() and word not in CASUAL and (len(word) < 5 or word.endswith("T"))
    return word if is_name else None


def zone_field(line: str) -> str | None:
    """The zone, other than UTC, in a field of a line; None if there is none.

    >>> zone_field('time=12:00:00 tz="+0100"'), zone_field("tz=UTC")
    ('tz=+0100', None)
    """
    found = FIELD.search(line)
    return None if found is None or zone_of(found[1]) == UTC else f"tz={found[1]}"


def zone_before(text: str) -> str:
    """The name of a zone, other than UTC, that ends the text before a time; empty if there is none.

    >>> zone_before("CET "), zone_before("main ")
    ('CET', '')
    """
    word = text.rstrip(" [(").rpartition(" ")[2].strip("()[]:,")
    return word if word in AMBIGUOUS or HOURS.get(word) else ""


@cache
def zone_of(name: str) -> tzinfo | None:
    """The zone with this offset or name; None if it is not known, or if several have the name.

    >>> str(zone_of("+01:00")), str(zone_of("GMT-3")), zone_of("XYZT")
    ('UTC+01:00', 'UTC-03:00', None)
    """
    name = name.strip().strip("()[]")
    if found := OFFSET.fullmatch(name) if not MINUTES.fullmatch(name) else None:
        sign, hours, minutes, seconds = found.groups(default="0")
        ahead = timedelta(hours=int(hours), minutes=int(minutes), seconds=int(seconds))
    elif found := MINUTES.fullmatch(name):  # of CIM and DB2
        sign, ahead = found[1], timedelta(minutes=int(found[2]))
    elif name in HOURS or name == "z":
        sign, ahead = "+", timedelta(hours=HOURS.get(name, 0))
    else:
        return _place(name)
    ahead = ahead if sign == "+" else -ahead
    return timezone(ahead) if timedelta(hours=-15) < ahead < timedelta(hours=15) else None


def _place(name: str) -> tzinfo | None:
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        return None


def given_zone(name: str) -> tzinfo:
    """The zone that the user names.

    A name of the tz database comes first: CET is the zone with summer time.

    >>> str(given_zone("Europe/Madrid"))
    'Europe/Madrid'

    Raises:
        LiquidError: it is not known.
    """
    if (found := _place(name.strip()) or zone_of(name)) is None:
        several = f" ({AMBIGUOUS[name]})" if name in AMBIGUOUS else ""
        raise LiquidError(
            f"--time-zone {name}{several} is not known: give a place such as Europe/Madrid, or an offset such"
            " as +01:00"
        )
    return found


def unclear_zone(name: str) -> LiquidError:
    """The error for the name of a zone in a file that is not known, or that several have."""
    name = name.strip().strip("()[]")
    what = f"may be {AMBIGUOUS[name]}" if name in AMBIGUOUS else "is not known"
    return LiquidError(
        f"the time zone {name} {what}: say which it is with --time-zone, such as --time-zone Europe/Madrid"
        " (if it is not a zone, --time-zone UTC; --time-format says how the times are written)"
    )

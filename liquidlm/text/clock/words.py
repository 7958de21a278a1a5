"""Names of months and weekdays in English and Spanish, and the two halves of a day."""

from itertools import chain

MONTHS = (
    ("jan", "january", "ene", "enero"),
    ("feb", "february", "febrero"),
    ("mar", "march", "marzo"),
    ("apr", "april", "abr", "abril"),
    ("may", "mayo"),
    ("jun", "june", "junio"),
    ("jul", "july", "julio"),
    ("aug", "august", "ago", "agosto"),
    ("sep", "sept", "september", "septiembre", "set", "setiembre"),
    ("oct", "october", "octubre"),
    ("nov", "november", "noviembre"),
    ("dec", "december", "dic", "diciembre"),
)
WEEKDAYS = (
    ("mon", "monday", "lun", "lunes"),
    ("tue", "tues", "tuesday", "mar", "martes"),
    ("wed", "wednesday", "mié", "mie", "miércoles", "miercoles"),
    ("thu", "thur", "thurs", "thursday", "jue", "jueves"),
    ("fri", "friday", "vie", "viernes"),
    ("sat", "saturday", "sáb", "sab", "sábado", "sabado"),
    ("sun", "sunday", "dom", "domingo"),
)


def _any_of(names: tuple[tuple[str, ...], ...]) -> str:
    """A pattern of any of the names, in any case; the longest that fits."""
    return f"(?i:{'|'.join(sorted(chain(*names), key=len, reverse=True))})"


MONTH, WEEKDAY = _any_of(MONTHS), _any_of(WEEKDAYS)
HALF = r"[AaPp](?:\.\s?)?[Mm]\.?"
"""AM or PM, also ``p. m.``."""


def month_number(name: str) -> int:
    """The number of a month, from 1.

    >>> month_number("Jan"), month_number("SEPT."), month_number("dic")
    (1, 9, 12)

    Raises:
        ValueError: no month has this name.
    """
    name = name.lower().rstrip(".")
    for number, names in enumerate(MONTHS, start=1):
        if name in names:
            return number
    raise ValueError(f"{name} is not a month")

"""What a question says beyond words: fields, phrases, comparisons, exclusions, terms of use. Pure.

Each is taken out of the text with the words that said it; what is left are words to interpret.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from types import MappingProxyType

import yaml

from catalog.faults import Fault
from catalog.licences import LICENCES
from catalog.platforms import platforms
from catalog.search.errors import QueryError
from catalog.search.facets import FILTERS, FIRST_YEAR, LAST_YEAR, resolve, unknown_value

BREAK = "\n"  # stands where something was taken out: no concept reaches across it
FIELDS = MappingProxyType(
    {
        **{name: name for name in FILTERS},
        "license": "licence",
        "organ": "anatomy",
        "body": "anatomy",
        "dim": "dimension",
        "modalities": "modality",
        "tasks": "task",
        "use": "allows",
        "on": "platform",
    }
)
# Words for what is counted, and the units in which a record may state it.
_SCANS = ("volume", "series", "study", "image")
_PEOPLE = ("subject",)
UNITS = MappingProxyType(
    {
        "case": (*_PEOPLE, *_SCANS, "slide"),
        "patient": _PEOPLE,
        "subject": _PEOPLE,
        "person": _PEOPLE,
        "people": _PEOPLE,
        "participant": _PEOPLE,
        "volunteer": _PEOPLE,
        "scan": _SCANS,
        "exam": ("study", "subject"),
        "study": ("study",),
        "studie": ("study",),
        "series": ("series",),
        "volume": ("volume", "series"),
        "image": ("image", "volume", "slide", "frame", "patch"),
        "picture": ("image",),
        "photo": ("image",),
        "radiograph": ("image",),
        "slide": ("slide",),
        "wsi": ("slide",),
        "video": ("video",),
        "frame": ("frame", "image"),
        "patch": ("patch", "image"),
        "patche": ("patch", "image"),
        "cell": ("cell",),
        "mask": ("mask",),
        "question": ("question",),
        "sample": (),
    }
)
_NUMBER = r"(?P<number>\d[\d,.]*\s?[km]?)"
_UNIT = r"(?:\s*(?P<unit>[a-z]+))?"
_MORE = r"(?:>=?|\u2265|at least|more than|over|above|min(?:imum)?|larger than|bigger than)"
_LESS = r"(?:<=?|\u2264|at most|less than|fewer than|under|below|up to|max(?:imum)?|smaller than)"
_YEAR = r"(?P<{}>(?:19|20)\d\d)"


@dataclass(frozen=True)
class Said:
    """One condition read from `source`: a facet's values, or a range of years or of counts."""

    facet: str
    source: str
    values: tuple[str, ...] = ()
    first: int | None = None
    last: int | None = None
    units: tuple[str, ...] = ()
    excluded: bool = False


@dataclass(frozen=True)
class Parsed:
    """`rest` are the words that are left, in order; `negated` those that must not occur."""

    rest: str
    said: tuple[Said, ...] = ()
    phrases: tuple[Said, ...] = ()
    negated: tuple[str, ...] = ()


@dataclass
class _Reader:
    text: str
    said: list[Said] = field(default_factory=list)
    phrases: list[Said] = field(default_factory=list)
    negated: list[str] = field(default_factory=list)

    def take(self, pattern: re.Pattern[str], read: Callable[[re.Match[str]], bool]) -> None:
        """Cut out every match that `read` understands."""
        self.text = pattern.sub(lambda m: BREAK if read(m) else m[0], self.text)


@lru_cache(maxsize=256)
def parse(text: str) -> Parsed:
    """Read a question.

    Raises:
        QueryError: a field is asked for a value that it does not have; names the nearest one.
    """
    reader = _Reader(text)
    reader.take(_FIELD, lambda m: _field(m, reader))
    reader.take(_PHRASE, lambda m: _phrase(m, reader))
    reader.take(_YEARS, lambda m: _years(m, reader))
    reader.take(_COUNT, lambda m: _count(m, reader))
    if _any_wording().search(reader.text):
        for facet, pattern, values, keep in _wordings():
            reader.take(pattern, _wording(facet, values, reader, keep=keep))
    reader.take(_MINUS, lambda m: _negated(m, reader))
    reader.take(_NOT, lambda m: _negated(m, reader))
    return Parsed(reader.text, tuple(reader.said), tuple(reader.phrases), tuple(reader.negated))


_FIELD = re.compile(
    r"(?<!\S)(?P<minus>-)?(?P<field>[a-z]+):(?:\"(?P<quoted>[^\"]*)\"|(?P<bare>\S+))",
    re.IGNORECASE,
)
_PHRASE = re.compile(r"(?<!\S)(?P<minus>-)?\"(?P<words>[^\"]+)\"")
_MINUS = re.compile(r"(?<!\S)-(?P<words>[^\W_][\w'&+-]*)")
_NOT = re.compile(
    r"(?<!\S)(?:but\s+)?(?:not|without|excluding|except|no)\s+(?:any\s+)?"
    r"(?P<words>[^\W\d_][\w'&+-]*(?: [^\W\d_][\w'&+-]*){0,3})",
    re.IGNORECASE,
)
_YEARS = re.compile(
    rf"(?<!\S)(?:(?P<word>since|from|after|newer than|before|until|till|older than|by|in)\s+"
    rf"{_YEAR.format('one')}(?:\s*(?:-|to|until|\u2013)\s*{_YEAR.format('until')})?"
    rf"|{_YEAR.format('start')}\s*(?:-|\u2013|to)\s*{_YEAR.format('end')}"
    rf"|(?P<sign>>=?|<=?)\s*{_YEAR.format('bound')})(?!\S)",
    re.IGNORECASE,
)
_COUNT = re.compile(
    rf"(?<!\S)(?:(?:with\s+)?(?P<word>{_MORE}|{_LESS})\s*{_NUMBER}\+?{_UNIT}"
    rf"|{_NUMBER.replace('number', 'plain')}\+{_UNIT.replace('unit', 'of')})(?!\S)",
    re.IGNORECASE,
)


def _field(match: re.Match[str], reader: _Reader) -> bool:
    facet = FIELDS.get(match["field"].casefold())
    if facet is None:
        return False
    text = match["quoted"] if match["quoted"] is not None else match["bare"]
    excluded = match["minus"] is not None
    if facet == "year" and (years := _year_range(text)):
        reader.said.append(Said("year", match[0].strip(), first=years[0], last=years[1]))
        return True
    values = []
    for part in text.split("|"):
        value = resolve(facet, part)
        if value is None:
            raise QueryError([_misspelled(facet, part)])
        values.append(value)
    reader.said.append(Said(facet, match[0].strip(), tuple(values), excluded=excluded))
    return True


def _misspelled(facet: str, text: str) -> Fault:
    fault = unknown_value(facet, text)
    return Fault("q", f"{facet}:{text}", fault.expected, fault.nearest)


def _year_range(text: str) -> tuple[int | None, int | None] | None:
    match = re.fullmatch(r"(>=?|<=?)?(\d{4})(?:-(\d{4}))?", text)
    if not match:
        return None
    year = int(match[2])
    bounds: dict[str | None, tuple[int | None, int | None]] = {
        ">": (year + 1, None),
        ">=": (year, None),
        "<": (None, year - 1),
        "<=": (None, year),
        None: (year, int(match[3] or year)),
    }
    return bounds[match[1]]


def _phrase(match: re.Match[str], reader: _Reader) -> bool:
    words = " ".join(match["words"].split())
    if not words:
        return True
    excluded = match["minus"] is not None
    reader.phrases.append(Said("phrase", match[0], (words,), excluded=excluded))
    return True


def _years(match: re.Match[str], reader: _Reader) -> bool:
    if match["start"]:
        bounds: tuple[int | None, int | None] = (int(match["start"]), int(match["end"]))
    elif match["bound"]:
        bounds = _year_range(f"{match['sign']}{match['bound']}") or (None, None)
    else:
        year = int(match["one"])
        until = int(match["until"]) if match["until"] else None
        bounds = {
            "since": (year, until),
            "from": (year, until),
            "after": (year + 1, until),
            "newer than": (year + 1, until),
            "before": (None, year - 1),
            "older than": (None, year - 1),
            "in": (year, until or year),
        }.get(" ".join(match["word"].casefold().split()), (None, year))
    reader.said.append(Said("year", match[0].strip(), first=bounds[0], last=bounds[1]))
    return True


def _count(match: re.Match[str], reader: _Reader) -> bool:
    number = _number(match["number"] or match["plain"])
    unit = (match["unit"] or match["of"] or "").casefold()
    known = unit in UNITS or unit.removesuffix("s") in UNITS
    if number is None or (unit and not known):
        return False
    units = UNITS.get(unit) or UNITS.get(unit.removesuffix("s")) or ()
    word = (match["word"] or ">=").casefold()
    if not unit and FIRST_YEAR <= number <= LAST_YEAR and match["word"]:
        return False  # "over 2000" may be a year: left as it is
    at_least = re.fullmatch(_MORE, word) is not None
    strict = word in {"more than", "over", "above", ">", "larger than", "bigger than"} or word in {
        "less than", "fewer than", "under", "below", "<", "smaller than",
    }  # fmt: skip
    first = number + strict if at_least else None
    last = None if at_least else number - strict
    reader.said.append(Said("count", match[0].strip(), first=first, last=last, units=units))
    return True


def _number(text: str) -> int | None:
    match = re.fullmatch(r"(\d[\d,]*(?:\.\d+)?)\s?([km]?)", text.casefold().rstrip("."))
    if not match:
        return None
    scale = {"": 1, "k": 1_000, "m": 1_000_000}[match[2]]
    return round(float(match[1].replace(",", "")) * scale)


def _wording(
    facet: str, values: tuple[str, ...], reader: _Reader, *, keep: bool
) -> Callable[[re.Match[str]], bool]:
    def read(match: re.Match[str]) -> bool:
        reader.said.append(Said(facet, match[0].strip(), values))
        return not keep

    return read


def _negated(match: re.Match[str], reader: _Reader) -> bool:
    reader.negated.append(match[0].strip())
    return True


@cache
def _wordings() -> tuple[tuple[str, re.Pattern[str], tuple[str, ...], bool], ...]:
    """Set phrases, licences and platforms as patterns, in the order in which they are tried."""
    rows = [
        (
            row["facet"],
            row["pattern"].replace("LICENCE", _LICENCE),
            tuple(row["values"]),
            row.get("keep", False),
        )
        for row in yaml.safe_load(WORDINGS.read_text("utf-8"))
    ]
    rows += [
        ("licence", _licence_pattern(name), (name,), False) for name in LICENCES if name[:3] in _CC
    ]
    rows += _licence_families()
    for name, row in platforms().items():
        names = [name, *row.synonyms, *row.hosts]
        clear = [word for word in names if word not in _MEAN_OTHER_THINGS]
        rows.append(("platform", _AT + _one_of(names), (name,), False))
        rows.append(("platform", _one_of(clear), (name,), False))
    return tuple(
        (facet, re.compile(rf"(?<![\w-])(?:{pattern})(?![\w-])", re.IGNORECASE), values, keep)
        for facet, pattern, values, keep in rows
    )


@cache
def _any_wording() -> re.Pattern[str]:
    """Matches where any set phrase does: most questions hold none."""
    return re.compile("|".join(row[1].pattern for row in _wordings()), re.IGNORECASE)


def _one_of(words: list[str]) -> str:
    return f"(?:{'|'.join(sorted(map(re.escape, words), key=len, reverse=True))})"


# Platforms whose short names are words of medicine too: only after "on" or "from".
_MEAN_OTHER_THINGS = frozenset({"Synapse", "HF", "IDC"})
WORDINGS = Path(__file__).with_name("wordings.yaml")
_LICENCE = r"licen[cs]e(?:d|s)?"
_AT = r"(?:on|from|at|via|hosted (?:on|by|at))\s+(?:the\s+)?"
_CC = frozenset({"CC-", "CC0"})


def _licence_pattern(name: str) -> str:
    """`CC-BY-NC-4.0` as people write it: blanks for hyphens, a trailing "licence"."""
    spelled = re.escape(name).replace("\\-", "[- ]").replace("CC0[- ]1\\.0", "CC0(?:[- ]1\\.0)?")
    return rf"{spelled}(?:\s+licen[cs]e)?"


def _licence_families() -> Iterator[tuple[str, str, tuple[str, ...], bool]]:
    """A Creative Commons name without its version means each version."""
    for kind in ("BY-NC-SA", "BY-NC-ND", "BY-NC", "BY-SA", "BY-ND", "BY"):
        names = tuple(
            name
            for name in LICENCES
            if re.fullmatch(rf"(?:LicenseRef-)?CC-{kind}(?:-\d\.\d(?:-CH)?)?", name)
        )
        spelled = f"CC-{kind}".replace("-", "[- ]")
        yield "licence", rf"{spelled}(?:\s+licen[cs]e)?", names, False

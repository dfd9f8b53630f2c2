"""Licences: what each allows, and what several allow together. Pure; no Django.

An id is an SPDX identifier, or `LicenseRef-...` for terms that SPDX does not list; several form an
SPDX expression: AND (all hold), OR (the holder chooses), WITH (an exception, which here never frees
more than its licence). An unknown or missing licence allows nothing: neither redistribution nor
adaptation.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, reduce
from types import MappingProxyType
from typing import Any

from license_expression import ExpressionError, Licensing

CREATIVE_COMMONS_VERSIONS = ("1.0", "2.0", "2.5", "3.0", "4.0")


@dataclass(frozen=True)
class Licence:
    """Terms of one licence.

    `share_alike`: derived work must carry the same licence. `no_combination`: the terms forbid
    joining the data with other data. `dua`: a data use agreement must be signed. `notice`: the
    licence text must travel along. `known` is false for an id outside the table.
    """

    id: str
    redistribute: bool = False
    adapt: bool = False
    commercial: bool = False
    share_alike: bool = False
    attribution: bool = True
    no_combination: bool = False
    dua: bool = False
    notice: bool = True
    known: bool = True


@dataclass(frozen=True)
class CombinedLicence:
    """What holds for a collection in which each file keeps its own licence.

    `ids` and `share_alike` are sorted. `one_file` says whether a single derived file (an average,
    a stacked array) may be made from all parts; `combinable` whether a collection may be built.
    """

    ids: tuple[str, ...] = ()
    redistribute: bool = True
    adapt: bool = True
    commercial: bool = True
    attribution: bool = False
    dua: bool = False
    notice: bool = False
    no_combination: bool = False
    share_alike: tuple[str, ...] = ()
    share_alike_commercial: bool = False

    @property
    def combinable(self) -> bool:
        """False when one of several parts forbids being combined."""
        return len(self.ids) < 2 or not self.no_combination  # noqa: PLR2004

    @property
    def one_file(self) -> bool:
        """All parts may be adapted, one share-alike licence at most, and no BY-SA beside NC."""
        mixes = self.share_alike_commercial and not self.commercial
        return self.adapt and self.combinable and len(self.share_alike) <= 1 and not mixes


def _creative_commons() -> Iterable[Licence]:
    yes = {"redistribute": True, "notice": False}
    for version in CREATIVE_COMMONS_VERSIONS:
        yield Licence(f"CC-BY-{version}", adapt=True, commercial=True, **yes)
        yield Licence(f"CC-BY-SA-{version}", adapt=True, commercial=True, share_alike=True, **yes)
        yield Licence(f"CC-BY-NC-{version}", adapt=True, **yes)
        yield Licence(f"CC-BY-NC-SA-{version}", adapt=True, share_alike=True, **yes)
        yield Licence(f"CC-BY-ND-{version}", commercial=True, **yes)
        yield Licence(f"CC-BY-NC-ND-{version}", **yes)
    yield Licence("LicenseRef-CC-BY-NC-SA-3.0-CH", adapt=True, share_alike=True, **yes)
    # Publishers that name a Creative Commons licence without its version: what all versions allow.
    yield Licence("LicenseRef-CC-BY", adapt=True, commercial=True, **yes)
    yield Licence("LicenseRef-CC-BY-SA", adapt=True, commercial=True, share_alike=True, **yes)
    yield Licence("LicenseRef-CC-BY-NC", adapt=True, **yes)
    yield Licence("LicenseRef-CC-BY-NC-SA", adapt=True, share_alike=True, **yes)
    yield Licence("LicenseRef-CC-BY-ND", commercial=True, **yes)
    yield Licence("LicenseRef-CC-BY-NC-ND", **yes)


def _open(ids: Iterable[str], *, share_alike: bool = False, free: bool = False) -> list[Licence]:
    return [
        Licence(
            licence_id,
            redistribute=True,
            adapt=True,
            commercial=True,
            share_alike=share_alike,
            attribution=not free,
            notice=not free,
        )
        for licence_id in ids
    ]


def _table() -> dict[str, Licence]:
    rows = [
        *_creative_commons(),
        *_open(("CC0-1.0", "PDDL-1.0", "CC-PDDC", "Unlicense"), free=True),
        *_open(("MIT", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ODC-By-1.0")),
        *_open(("CDLA-Permissive-1.0", "CDLA-Permissive-2.0")),
        *_open(("ODbL-1.0", "CDLA-Sharing-1.0"), share_alike=True),
        *_open(("GPL-2.0-only", "GPL-2.0-or-later", "GPL-3.0-only"), share_alike=True),
        *_open(("GPL-3.0-or-later", "AGPL-3.0-only", "LGPL-3.0-only"), share_alike=True),
        # Terms outside SPDX: nothing is allowed until a curator has read them.
        Licence("LicenseRef-research-only"),
        Licence("LicenseRef-non-commercial"),
        Licence("LicenseRef-challenge-terms"),
        Licence("LicenseRef-kaggle-competition"),
        Licence("LicenseRef-BraTS-data-usage"),
        Licence("LicenseRef-Dermofit"),
        Licence("LicenseRef-FSL"),
        Licence("LicenseRef-ISIC-per-image"),
        Licence("LicenseRef-NIH-GDS-policy", dua=True),
        Licence("LicenseRef-NSD-terms"),
        Licence("LicenseRef-RSNA-attribution"),
        Licence("LicenseRef-UCSF-non-commercial"),
        Licence("LicenseRef-DeepCell-modified-Apache-2.0"),
        Licence("LicenseRef-SCIN-Data-Use"),
        Licence("LicenseRef-covid-chestxray-per-image"),
        Licence("LicenseRef-MNI-template"),
        Licence("LicenseRef-NLM-terms-2019"),
        Licence("LicenseRef-TCIA-restricted", dua=True),
        Licence("LicenseRef-data-use-agreement", dua=True),
        Licence("LicenseRef-EGD", dua=True),
        Licence("LicenseRef-ADNI-DUA", dua=True),
        Licence("LicenseRef-EMBED", dua=True),
        Licence("LicenseRef-ENHANCE-PET", dua=True),
        Licence("LicenseRef-GSP-DUA", dua=True),
        Licence("LicenseRef-HCP-DUA", dua=True),
        Licence("LicenseRef-NCTN-NCORP-Data-Archive", dua=True),
        Licence("LicenseRef-NYUMets", dua=True),
        Licence("LicenseRef-OASIS-DUA", dua=True),
        Licence("LicenseRef-PPMI-DUA", dua=True),
        Licence("LicenseRef-Synapse-conditions", dua=True),
        Licence("LicenseRef-UK-Biobank-MTA", dua=True),
        Licence("LicenseRef-fastMRI-DUA", dua=True),
        Licence("LicenseRef-PhysioNet-restricted-1.5.0", dua=True),
        Licence("LicenseRef-PhysioNet-credentialed-1.5.0", dua=True),
        Licence("LicenseRef-Stanford-research-use", dua=True, no_combination=False),
    ]
    return {row.id: row for row in rows}


LICENCES: Mapping[str, Licence] = MappingProxyType(_table())


def licence(expression: str | None) -> Licence:
    """Terms of an id or an SPDX expression; an unknown or missing one allows nothing.

    `known` is false when a part that counts is outside the table.
    """
    parts = parts_of(expression)
    return parts[0] if len(parts) == 1 else reduce(_both, parts)


def parts_of(expression: str | None) -> tuple[Licence, ...]:
    """The licences that hold together, once each, in order of id; of an OR the freest side."""
    text = (expression or "").strip()
    if text in LICENCES:
        return (LICENCES[text],)
    if not _EXPRESSION.search(text):
        return (Licence(text, known=False),)
    return _parsed(text)


_GRAMMAR = Licensing()  # names are looked up in our own table
_EXPRESSION = re.compile(r"\s(?:AND|OR|WITH)\s", re.IGNORECASE)


@lru_cache(maxsize=1024)
def _parsed(text: str) -> tuple[Licence, ...]:
    try:
        tree = _GRAMMAR.parse(text)
    except ExpressionError:
        return (Licence(text, known=False),)
    rows = {row.id: row for row in _fold(tree)}
    return tuple(rows[key] for key in sorted(rows))


def _fold(node: Any) -> tuple[Licence, ...]:
    operator = getattr(node, "operator", "")
    if operator.strip() == "AND":
        return tuple(row for one in node.args for row in _fold(one))
    if operator.strip() == "OR":
        return min((_fold(one) for one in node.args), key=_burden)
    if (base := getattr(node, "license_symbol", None)) is not None:
        row = LICENCES.get(base.key) or Licence(base.key, known=False)
        return (replace(row, id=f"{base.key} WITH {node.exception_symbol.key}"),)
    return (LICENCES.get(node.key) or Licence(node.key, known=False),)


def _burden(rows: tuple[Licence, ...]) -> tuple[object, ...]:
    """Sorts alternatives, the freest first; names decide between equals."""
    whole = reduce(_both, rows)
    refusals = (not whole.redistribute, not whole.adapt, not whole.commercial)
    duties = (whole.no_combination, whole.dua, whole.share_alike, whole.attribution, whole.notice)
    return (*refusals, *duties, sorted(row.id for row in rows))


def _both(one: Licence, other: Licence) -> Licence:
    """Terms that hold when both do."""
    return Licence(
        id=f"{one.id} AND {other.id}",
        redistribute=one.redistribute and other.redistribute,
        adapt=one.adapt and other.adapt,
        commercial=one.commercial and other.commercial,
        share_alike=one.share_alike or other.share_alike,
        attribution=one.attribution or other.attribution,
        no_combination=one.no_combination or other.no_combination,
        dua=one.dua or other.dua,
        notice=one.notice or other.notice,
        known=one.known and other.known,
    )


def licence_url(licence_id: str) -> str:
    """Web page of an SPDX licence; empty for a LicenseRef and for an expression."""
    if licence_id.startswith("LicenseRef-") or " " in licence_id:
        return ""
    return f"https://spdx.org/licenses/{licence_id}.html"


def combine(parts: Iterable[Licence | str | None]) -> CombinedLicence:
    """What all parts allow together.

    Order and repetition do not matter, and a further part never allows more.
    """
    rows = (
        row for part in parts for row in ((part,) if isinstance(part, Licence) else parts_of(part))
    )
    return reduce(_join, rows, CombinedLicence())


def _join(whole: CombinedLicence, part: Licence) -> CombinedLicence:
    shared = {part.id} if part.share_alike else set()
    return CombinedLicence(
        ids=tuple(sorted({*whole.ids, part.id})),
        redistribute=whole.redistribute and part.redistribute,
        adapt=whole.adapt and part.adapt,
        commercial=whole.commercial and part.commercial,
        attribution=whole.attribution or part.attribution,
        dua=whole.dua or part.dua,
        notice=whole.notice or part.notice,
        no_combination=whole.no_combination or part.no_combination,
        share_alike=tuple(sorted({*whole.share_alike, *shared})),
        share_alike_commercial=whole.share_alike_commercial
        or (part.share_alike and part.commercial),
    )


def nearest(text: str) -> Licence | None:
    """The licence of the table whose id is spelled most like `text`."""
    if (named := from_text(text)) is not None:
        return named
    by_lower = {licence_id.lower(): row for licence_id, row in LICENCES.items()}
    close = difflib.get_close_matches(text.strip().lower(), list(by_lower), n=1, cutoff=0.4)
    return by_lower[close[0]] if close else None


_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "cc0": "CC0-1.0",
        "cc0 1.0": "CC0-1.0",
        "cc0: public domain": "CC0-1.0",
        "bsd-3": "BSD-3-Clause",
        "gpl 2": "GPL-2.0-only",
        "gpl-3.0": "GPL-3.0-only",
        "non-commercial use": "LicenseRef-non-commercial",
        "academic/non-commercial use": "LicenseRef-non-commercial",
        "physionet restricted health data license 1.5.0": "LicenseRef-PhysioNet-restricted-1.5.0",
        "egd data license": "LicenseRef-EGD",
        "stanford university dataset research use agreement": "LicenseRef-Stanford-research-use",
        "national library of medicine terms and conditions; may 21, 2019": (
            "LicenseRef-NLM-terms-2019"
        ),
    }
)


def from_text(text: str) -> Licence | None:
    """The licence that a plain wording such as "CC BY-NC 4.0." names without doubt, else None.

    A Creative Commons name without its version stays unmapped: versions differ in their terms.
    """
    plain = text.strip().rstrip(".").strip()
    if plain in LICENCES:
        return LICENCES[plain]
    lower = plain.lower()
    if lower in _WORDS:
        return LICENCES[_WORDS[lower]]
    for licence_id, row in LICENCES.items():
        if licence_id.lower() == lower:
            return row
    match = re.fullmatch(r"(?:cc[ -])?(by(?:-nc)?(?:-sa|-nd)?)[ -]([1-4]\.[05])", lower)
    return LICENCES.get(f"CC-{match[1].upper()}-{match[2]}") if match else None

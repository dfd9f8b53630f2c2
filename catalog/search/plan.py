"""A query as conditions over indexed fields: each engine translates these few nodes, no more.

The same nodes are evaluated here on a document, to say what a near match lacks. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from catalog import vocab
from catalog.concepts import concept
from catalog.describe import plural
from catalog.search.documents import Document
from catalog.search.facets import TITLES
from catalog.search.interpret import NOISE, Interpretation, Understood, wording
from catalog.search.mentions import body_parts, named, narrower
from catalog.search.query import Query
from catalog.search.syntax import Said
from catalog.search.words import fold, variants

NAME_BOOST = 3.0
STATED_SCORE = 1.0  # the dataset carries the concept or a narrower one
#: What each part of `Document` adds: the concept itself and no narrower one, as the facet's only
#: value, in words of the dataset, in its name.
PART_SCORES = {"direct": 3.0, "only": 1.5, "worded": 1.0, "named": 1.5}
SAID_SCORE = 1.0  # it says the very word that was typed
NARROWER_SCORE = 4.0  # it names the narrower thing that was typed, by whichever name
#: What a near match had better keep, by facet: what a dataset is about is worth more than what it
#: is for, and a word may just be unsaid.
KEPT_SCORES = {"disease": 30.0, "anatomy": 30.0, "modality": 20.0, "task": 10.0, "dimension": 10.0}
RELATED_SCORE = 2.0  # a near match in the same larger structure or region
EXACT_SCORE = 60.0  # the whole text is the dataset's name or an alias of it


@dataclass(frozen=True)
class Term:
    """A document has `value` in `field`. Scored by BM25 x boost, or by `constant` where given."""

    field: str
    value: str
    boost: float = 1.0
    constant: float | None = None
    prefix: bool = False


@dataclass(frozen=True)
class Years:
    """The year lies within, ends included."""

    first: int | None
    last: int | None


@dataclass(frozen=True)
class Numbers:
    """A count of one of `units` lies within, ends included."""

    units: tuple[str, ...]
    first: int | None
    last: int | None


@dataclass(frozen=True)
class Phrase:
    """The words follow each other in one of the texts of `said`."""

    words: tuple[str, ...]


@dataclass(frozen=True)
class Some:
    """At least one node holds; scores add up."""

    nodes: tuple[Node, ...]


@dataclass(frozen=True)
class Concept:
    """A document has the concept in one of `places`; scores add up."""

    facet: str
    term: str

    @property
    def places(self) -> tuple[Term, ...]:
        """It or a narrower one is carried, its words stand there, it is carried itself, ..."""
        fields = {f"{part}_{self.facet}": score for part, score in PART_SCORES.items()}
        fields = {self.facet: STATED_SCORE} | fields
        return tuple(Term(field, self.term, constant=score) for field, score in fields.items())


Node = Term | Years | Numbers | Phrase | Some | Concept


@dataclass(frozen=True)
class Constraint:
    """One thing that was asked for, as a node and in words.

    A near match that `related` finds is nearer: it shares a broader concept with what was asked.
    `core` is met by the same documents as `node` in fewer clauses, for counting.
    """

    facet: str
    wanted: str
    node: Node
    related: tuple[Term, ...] = ()
    core: Node | None = None

    @property
    def kept_score(self) -> float:
        """What meeting it adds to a near match."""
        return KEPT_SCORES.get(self.facet, 0.0)

    def gap(self, document: Document) -> str | None:
        """What the document has instead; None when it satisfies the constraint."""
        if holds(self.node, document):
            return None
        if self.facet in {"text", "phrase"}:
            return f"does not mention {self.wanted!r}"
        if self.facet == "count":
            sizes = [
                f"{number:,} {plural(unit, number)}" for unit, number in document.counts.items()
            ]
            return f"size is {', '.join(sizes) or 'unknown'}, not {self.wanted}"
        values = document.direct.get(self.facet) or document.values.get(self.facet, ())
        found = ", ".join(values) or "unknown"
        return f"{TITLES[self.facet].lower()} is {found}, not {self.wanted}"


@dataclass(frozen=True)
class Plan:
    """`musts` come from the text, `choices` from facets: a choice never narrows its own counts.

    What is `excluded` is in no result, not even in a near one.
    """

    musts: tuple[Constraint, ...] = ()
    excluded: tuple[Node, ...] = ()
    choices: Mapping[str, Constraint] = field(default_factory=dict)
    bonus: tuple[Term, ...] = ()
    sort: str = "relevance"
    offset: int = 0
    limit: int = 20

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        return (*self.musts, *self.choices.values())

    @property
    def related(self) -> tuple[Term, ...]:
        return tuple(term for item in self.constraints for term in item.related)


def make_plan(query: Query, reading: Interpretation) -> Plan:
    """All conditions of a query."""
    musts = [_concept(understood) for understood in _narrowest(reading.concepts)]
    musts += [_word(word, prefix=word in reading.unknown) for word in reading.free]
    musts += [_condition(said) for said in (*reading.said, *reading.phrases) if not said.excluded]
    if query.year_from or query.year_to:
        wanted = f"{query.year_from or '...'}-{query.year_to or '...'}"
        musts.append(Constraint("year", wanted, Years(query.year_from, query.year_to)))
    if query.unit or query.size_from is not None or query.size_to is not None:
        wanted = size_words(query.size_from, query.size_to, query.unit)
        units = (query.unit,) if query.unit else ()
        musts.append(
            Constraint("count", wanted, Numbers(units, query.size_from or 1, query.size_to))
        )
    excluded = [_carried(one.facet, one.term) for one in reading.excluded]
    excluded += [
        _condition(said).node for said in (*reading.said, *reading.phrases) if said.excluded
    ]
    excluded += [Term(facet, value) for facet, values in query.without.items() for value in values]
    whole = fold(query.text)
    exact = (Term("exact", whole, constant=EXACT_SCORE),) if whole else ()
    return Plan(
        musts=tuple(musts),
        excluded=tuple(excluded),
        choices={facet: _choice(facet, values) for facet, values in query.filters.items()},
        bonus=(*exact, *_bonus(reading)),
        sort=query.sort,
        offset=query.offset,
        limit=query.limit,
    )


def size_words(first: int | None, last: int | None, unit: str) -> str:
    """A range of sizes as a person reads it: "50-200 volumes", "200 volumes or more"."""
    what = plural(unit, 2) if unit else "of any unit"
    if first is None and last is None:
        return f"any number of {what}"
    if first is None or last is None:
        end = "or more" if last is None else "or fewer"
        return f"{first if last is None else last:,} {what} {end}"
    return f"{first:,}-{last:,} {what}"


def _narrowest(concepts: tuple[Understood, ...]) -> list[Understood]:
    """Each concept once: two words for one concept ask for it once."""
    found: dict[tuple[str, str], Understood] = {}
    for one in concepts:
        found.setdefault((one.facet, one.term), one)
    return list(found.values())


def _bonus(reading: Interpretation) -> Iterator[Term]:
    """What raises a result without being asked for: the very words.

    "lumbar spine" asks for the spine, and a dataset that says lumbar comes first; "optic disc" for
    the retina, and one that names the optic nerve head.
    """
    for one in reading.concepts:
        if (inner := narrower(one.facet, one.term, one.source)) is not None:
            yield Term("mentions", inner, constant=NARROWER_SCORE)
        own = set(fold(one.term).split())
        for word in one.source.split():
            if word not in own and word not in NOISE:
                yield Term("name_words", word, constant=SAID_SCORE)
                yield Term("text", word, constant=SAID_SCORE)
        for word in own & set(one.source.split()):
            yield Term("name_words", word, constant=SAID_SCORE)


def _condition(said: Said) -> Constraint:
    wanted = wording(said)
    if said.facet == "phrase":
        words = tuple(word for text in said.values for word in fold(text).split())
        return Constraint("phrase", wanted, Phrase(words))
    if said.facet == "count":
        return Constraint("count", wanted, Numbers(said.units, said.first, said.last))
    if said.facet == "year" and not said.values:
        return Constraint("year", wanted, Years(said.first, said.last))
    return _choice(said.facet, said.values)


def _carried(facet: str, term: str) -> Node:
    """The dataset carries the concept or a narrower one; a word stands in its name or text."""
    if facet == "text":
        return Some(tuple(Term("text", spelling) for spelling in variants(term)))
    return Term(facet, term)


def _choice(facet: str, values: tuple[str, ...]) -> Constraint:
    node = Some(tuple(Term(facet, value, constant=0.0) for value in values))
    return Constraint(facet, " or ".join(values), node, _related(facet, values))


def _related(facet: str, names: tuple[str, ...]) -> tuple[Term, ...]:
    if facet not in vocab.FACETS:
        return ()
    known = [name for name in names if name in vocab.terms(facet)]
    above = dict.fromkeys(up for name in known for up in vocab.ancestors(facet, name))
    return tuple(Term(facet, up, constant=RELATED_SCORE) for up in above)


def _concept(understood: Understood) -> Constraint:
    """The concept or a narrower one; or its words in the name or among the concepts' names."""
    facet, term = understood.facet, understood.term
    # What a dataset carries itself it carries, and a concept in its name stands in its words.
    core = Some((Term(facet, term), Term(f"worded_{facet}", term)))
    return Constraint(facet, term, Concept(facet, term), _related(facet, (term,)), core)


def _word(word: str, *, prefix: bool) -> Constraint:
    nodes = [
        Term(name, spelling, boost=boost)
        for spelling in variants(word)
        for name, boost in (("name_words", NAME_BOOST), ("text", 1.0))
    ]
    if prefix:
        nodes.append(Term("text", word, constant=SAID_SCORE, prefix=True))
    related: tuple[Term, ...] = ()
    if (concept_id := named(word)) is not None:
        nodes.append(Term("mentions", concept_id, constant=SAID_SCORE))
        around = body_parts(concept_id)
        related = tuple(Term("anatomy", part, constant=RELATED_SCORE) for part in around)
    fewer = tuple(node for node in nodes if node.field != "name_words")  # the text holds it too
    return Constraint("text", word, Some(tuple(nodes)), related, Some(fewer))


def holds(node: Node, document: Document) -> bool:
    """Whether a document satisfies a node: what the engines compute over their index."""
    match node:
        case Term(field=name, value=value, prefix=prefix):
            found = document.words(name)
            return any(word.startswith(value) for word in found) if prefix else value in found
        case Years(first=first, last=last):
            year = document.year
            return year is not None and (first or year) <= year <= (last or year)
        case Numbers(units=units, first=first, last=last):
            numbers = [n for unit, n in document.counts.items() if not units or unit in units]
            return any((first or number) <= number <= (last or number) for number in numbers)
        case Phrase(words=words):
            wanted = f" {' '.join(words)} "
            return any(wanted in f" {text} " for text in document.said)
        case Some(nodes=nodes):
            return any(holds(inner, document) for inner in nodes)
        case Concept(places=places):
            return any(holds(place, document) for place in places)


def explainer(plan: Plan, reading: Interpretation) -> Callable[[Document], tuple[str, ...]]:
    """Tells why a document is found, strongest reason first."""
    exact = {term.value for term in plan.bonus if term.field == "exact"}
    concepts = _narrowest(reading.concepts)
    inner = dict.fromkeys(
        one for said in concepts if (one := narrower(said.facet, said.term, said.source))
    )
    words = [
        (word, variants(word), _word(word, prefix=word in reading.unknown).node, named(word))
        for word in reading.free
    ]
    stated = [_condition(said) for said in (*reading.said, *reading.phrases) if not said.excluded]
    ranges = [one for one in plan.musts if one.facet in {"count", "year"} and one not in stated]
    conditions = [*stated, *ranges, *plan.choices.values()]

    def reasons(document: Document) -> tuple[str, ...]:
        found = []
        if not exact.isdisjoint(document.exact):
            found.append("name or alias is the whole text")
        found += [reason for said in concepts if (reason := _reason(said, document))]
        found += [f"names {concept(one).label}" for one in inner if one in document.mentions]
        for word, spellings, node, concept_id in words:
            if any(spelling in document.name_words for spelling in spellings):
                found.append(f"name has {word!r}")
            elif concept_id and concept_id in document.mentions:
                found.append(f"names {concept(concept_id).label}")
            elif holds(node, document):
                found.append(f"text has {word!r}")
        found += [_satisfied(one, document) for one in conditions if holds(one.node, document)]
        return tuple(found)

    return reasons


def _satisfied(constraint: Constraint, document: Document) -> str:
    if constraint.facet == "phrase":
        return f"says {constraint.wanted!r}"
    if constraint.facet == "count":
        node = constraint.node
        units = node.units if isinstance(node, Numbers) else ()
        sizes = [
            f"{number:,} {plural(unit, number)}"
            for unit, number in document.counts.items()
            if not units or unit in units
        ]
        return f"size {', '.join(sizes)}"
    if constraint.facet == "year":
        return f"year {document.year}"
    return f"{TITLES[constraint.facet].lower()} {constraint.wanted}"


def _reason(said: Understood, document: Document) -> str:
    facet, term, title = said.facet, said.term, TITLES[said.facet].lower()
    own = document.direct.get(facet, ())
    if term in own:
        return f"{title} {term}"
    if term in document.values.get(facet, ()):
        narrower = [one for one in own if term in vocab.ancestors(facet, one)]
        return f"{title} {', '.join(narrower)} belongs to {term}" if narrower else f"{title} {term}"
    return f"words of {title} {term}" if term in document.worded.get(facet, ()) else ""

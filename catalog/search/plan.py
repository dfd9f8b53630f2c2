"""A query as conditions over indexed fields: each engine translates these few nodes, no more.

The same nodes are evaluated here on a document, to say what a near match lacks. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from catalog import vocab
from catalog.search.documents import Document
from catalog.search.interpret import Interpretation, Understood, spellings
from catalog.search.query import TITLES, Query
from catalog.search.words import fold, variants

NAME_BOOST = 3.0
DIRECT_SCORE = 3.0  # the dataset carries the concept itself, not only a narrower one
STATED_SCORE = 1.0
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
class Some:
    """At least one node holds; scores add up."""

    nodes: tuple[Node, ...]


@dataclass(frozen=True)
class Every:
    """All nodes hold; scores add up."""

    nodes: tuple[Node, ...]


Node = Term | Years | Some | Every


@dataclass(frozen=True)
class Constraint:
    """One thing that was asked for, as a node and in words.

    A near match that `related` finds is nearer: it shares a broader concept with what was asked.
    """

    facet: str
    wanted: str
    node: Node
    related: tuple[Term, ...] = ()

    def gap(self, document: Document) -> str | None:
        """What the document has instead; None when it satisfies the constraint."""
        if holds(self.node, document):
            return None
        if self.facet == "text":
            return f"does not mention {self.wanted!r}"
        values = document.direct.get(self.facet) or document.values.get(self.facet, ())
        found = ", ".join(values) or "unknown"
        return f"{TITLES[self.facet].lower()} is {found}, not {self.wanted}"


@dataclass(frozen=True)
class Plan:
    """`musts` come from the text, `choices` from facets: a choice never narrows its own counts."""

    musts: tuple[Constraint, ...] = ()
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
    musts = [_concept(understood) for understood in reading.concepts]
    musts += [_word(word, prefix=word in reading.unknown) for word in reading.free]
    if query.year_from or query.year_to:
        wanted = f"{query.year_from or '...'}-{query.year_to or '...'}"
        musts.append(Constraint("year", wanted, Years(query.year_from, query.year_to)))
    whole = fold(query.text)
    return Plan(
        musts=tuple(musts),
        choices={facet: _choice(facet, values) for facet, values in query.filters.items()},
        bonus=(Term("exact", whole, constant=EXACT_SCORE),) if whole else (),
        sort=query.sort,
        offset=query.offset,
        limit=query.limit,
    )


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
    by_concept = (
        Term(facet, term, constant=STATED_SCORE),
        Term(f"direct_{facet}", term, constant=DIRECT_SCORE),
    )
    by_words = tuple(
        Every(
            tuple(Term("stated", word, constant=STATED_SCORE / len(spelling)) for word in spelling)
        )
        for spelling in spellings(facet, term)
    )
    return Constraint(facet, term, Some((*by_concept, *by_words)), _related(facet, (term,)))


def _word(word: str, *, prefix: bool) -> Constraint:
    nodes = [
        Term(name, spelling, boost=boost)
        for spelling in variants(word)
        for name, boost in (("name_words", NAME_BOOST), ("text", 1.0))
    ]
    if prefix:
        nodes.append(Term("text", word, constant=STATED_SCORE, prefix=True))
    return Constraint("text", word, Some(tuple(nodes)))


def holds(node: Node, document: Document) -> bool:
    """Whether a document satisfies a node: what the engines compute over their index."""
    match node:
        case Term(field=name, value=value, prefix=prefix):
            found = document.words(name)
            return any(word.startswith(value) for word in found) if prefix else value in found
        case Years(first=first, last=last):
            year = document.year
            return year is not None and (first or year) <= year <= (last or year)
        case Some(nodes=nodes):
            return any(holds(inner, document) for inner in nodes)
        case Every(nodes=nodes):
            return all(holds(inner, document) for inner in nodes)


def reasons(plan: Plan, reading: Interpretation, document: Document) -> tuple[str, ...]:
    """Why a document is found, strongest reason first."""
    found = []
    if any(holds(term, document) for term in plan.bonus):
        found.append("name or alias is the whole text")
    found.extend(_reason(said, document) for said in reading.concepts)
    for word in reading.free:
        if any(spelling in document.name_words for spelling in variants(word)):
            found.append(f"name has {word!r}")
        elif holds(_word(word, prefix=word in reading.unknown).node, document):
            found.append(f"text has {word!r}")
    for facet, constraint in plan.choices.items():
        if holds(constraint.node, document):
            found.append(f"{TITLES[facet].lower()} {constraint.wanted}")
    return tuple(text for text in found if text)


def _reason(said: Understood, document: Document) -> str:
    title = TITLES[said.facet].lower()
    if said.term in document.words(f"direct_{said.facet}"):
        return f"{title} {said.term}"
    if said.term in document.values.get(said.facet, ()):
        narrower = [
            own
            for own in document.direct.get(said.facet, ())
            if said.term in vocab.ancestors(said.facet, own)
        ]
        return f"{title} {', '.join(narrower) or said.term} belongs to {said.term}"
    return f"words of {title} {said.term}" if holds(_concept(said).node, document) else ""

"""The whole catalog as DCAT 3 in RDF. Pure but for rdflib."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from rdflib import DCAT, DCTERMS, FOAF, RDF, XSD, Graph, Literal, URIRef
from rdflib.term import Node

from catalog.describe import describe
from catalog.licences import licence_url

# The European Union's authority list of access rights, which DCAT-AP asks for.
_RIGHTS = "http://publications.europa.eu/resource/authority/access-right/"
ACCESS_RIGHTS: Mapping[str, str] = MappingProxyType(
    {
        "open": f"{_RIGHTS}PUBLIC",
        "registration": f"{_RIGHTS}PUBLIC",
        "application": f"{_RIGHTS}RESTRICTED",
    }
)
BASE = "urn:imagingx:"


def to_graph(datasets: Iterable[Mapping[str, Any]], base: str = BASE) -> Graph:
    """A dcat:Catalog and its datasets; `base` is the address that slugs are appended to."""
    graph = Graph()
    graph.bind("dcat", DCAT)
    graph.bind("dct", DCTERMS)
    catalog = URIRef(f"{base}catalog")
    graph.add((catalog, RDF.type, DCAT.Catalog))
    graph.add((catalog, DCTERMS.title, Literal("Imaging-X Portal catalog", lang="en")))
    about = "Medical-imaging datasets, each value with the sources that state it"
    graph.add((catalog, DCTERMS.description, Literal(about, lang="en")))
    graph.add((catalog, DCTERMS.publisher, _agent(graph, "Imaging-X Portal", base)))
    for facts in datasets:
        node = URIRef(f"{base}{facts['slug']}")
        graph.add((catalog, DCAT.dataset, node))
        _add(graph, node, facts, base)
    return graph


def _add(graph: Graph, node: URIRef, facts: Mapping[str, Any], base: str) -> None:
    graph.add((node, RDF.type, DCAT.Dataset))
    for predicate, value in _properties(facts, base):
        graph.add((node, predicate, value))
    if facts["publisher"]:
        graph.add((node, DCTERMS.publisher, _agent(graph, facts["publisher"], base)))
    for place, link in enumerate(facts["links"]):
        if link["kind"] == "download":
            part = URIRef(f"{node}#distribution-{place}")
            graph.add((node, DCAT.distribution, part))
            graph.add((part, RDF.type, DCAT.Distribution))
            graph.add((part, DCAT.accessURL, _uri(link["url"])))


def _properties(facts: Mapping[str, Any], base: str) -> Iterator[tuple[URIRef, Node]]:
    yield DCTERMS.title, Literal(facts["name"], lang="en")
    yield DCTERMS.description, Literal(describe(facts), lang="en")
    yield DCTERMS.identifier, Literal(facts["slug"])
    for words in ("modalities", "anatomies", "tasks", "diseases"):
        yield from ((DCAT.keyword, Literal(word, lang="en")) for word in facts[words])
    if facts["year"]:
        yield DCTERMS.issued, Literal(str(facts["year"]), datatype=XSD.gYear)
    if facts["doi"]:
        yield DCTERMS.relation, _uri(f"https://doi.org/{facts['doi']}")
    if facts["licence"]:
        yield DCTERMS.license, _licence(facts["licence"], base)
    if rights := ACCESS_RIGHTS.get(facts["access"]):
        yield DCTERMS.accessRights, URIRef(rights)
    if facts["homepage"]:
        yield DCAT.landingPage, _uri(facts["homepage"])
    for row in facts["relations"]:
        if not row.get("inverse"):
            predicate = DCTERMS.isPartOf if row["kind"] == "part_of" else DCTERMS.relation
            yield predicate, URIRef(f"{base}{row['to']}")


def _uri(url: str) -> URIRef:
    """An address as RDF allows it: marks that no URI may hold are percent-encoded."""
    return URIRef(quote(url, safe=":/?#[]@!$&'()*+,;=%~"))


def _licence(licence: str, base: str) -> URIRef:
    return URIRef(licence_url(licence) or f"{base}licence:{licence}")


def _agent(graph: Graph, name: str, base: str) -> URIRef:
    node = URIRef(f"{base}agent:{quote(name, safe='')}")
    graph.add((node, RDF.type, FOAF.Agent))
    graph.add((node, FOAF.name, Literal(name)))
    return node

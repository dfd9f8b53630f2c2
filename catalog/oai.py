"""One dataset as metadata that OAI-PMH hands out: Dublin Core and DataCite. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from xml.etree.ElementTree import Element, SubElement, register_namespace

from catalog.citation import citation
from catalog.describe import describe
from catalog.licences import licence_url

Facts = Mapping[str, Any]
XSI = "http://www.w3.org/2001/XMLSchema-instance"
OAI_DC = "http://www.openarchives.org/OAI/2.0/oai_dc/"
DC = "http://purl.org/dc/elements/1.1/"
DATACITE = "http://datacite.org/schema/kernel-4"
UNKNOWN = ":unkn"  # DataCite's word for what is required and not known
NOT_IN_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
for _prefix, _space in (("xsi", XSI), ("oai_dc", OAI_DC), ("dc", DC), ("datacite", DATACITE)):
    register_namespace(_prefix, _space)


def plain(text: object) -> str:
    """Text without the characters that XML cannot hold."""
    return NOT_IN_XML.sub("", str(text))


@dataclass(frozen=True)
class Format:
    """A way to write a dataset: where its schema is, and the writer (facts, page address)."""

    schema: str
    namespace: str
    write: Callable[[Facts, str], Element]


def dublin_core(facts: Facts, page: str) -> Element:
    """What is unknown is left out."""
    root = Element(f"{{{OAI_DC}}}dc")
    root.set(f"{{{XSI}}}schemaLocation", f"{OAI_DC} {FORMATS['oai_dc'].schema}")
    for name, text in _elements(facts, page):
        SubElement(root, f"{{{DC}}}{name}").text = plain(text)
    return root


def _elements(facts: Facts, page: str) -> Iterator[tuple[str, object]]:
    yield "title", facts["name"]
    yield from (("creator", name) for name in citation(facts)["authors"])
    for field in ("modalities", "anatomies", "tasks", "diseases"):
        yield from (("subject", word) for word in facts[field])
    yield "description", describe(facts)
    if facts["publisher"]:
        yield "publisher", facts["publisher"]
    if facts["year"]:
        yield "date", facts["year"]
    yield "type", "Dataset"
    yield "identifier", page
    if facts["doi"]:
        yield "identifier", f"https://doi.org/{facts['doi']}"
    if facts["homepage"]:
        yield "source", facts["homepage"]
    if facts["licence"]:
        yield "rights", licence_url(facts["licence"]) or facts["licence"]


def datacite(facts: Facts, page: str) -> Element:
    """DataCite 4: what it requires and nobody states is `:unkn`."""
    cited = citation(facts)
    root = Element(f"{{{DATACITE}}}resource")
    root.set(f"{{{XSI}}}schemaLocation", f"{DATACITE} {FORMATS['oai_datacite'].schema}")
    doi = facts["doi"]
    _add(root, "identifier", doi or page, identifierType="DOI" if doi else "URL")
    creators = _add(root, "creators")
    for name in cited["authors"] or [UNKNOWN]:
        _add(_add(creators, "creator"), "creatorName", name)
    _add(_add(root, "titles"), "title", facts["name"])
    _add(root, "publisher", facts["publisher"] or UNKNOWN)
    _add(root, "publicationYear", facts["year"] or UNKNOWN)
    _add(root, "resourceType", "Medical images", resourceTypeGeneral="Dataset")
    subjects = _add(root, "subjects")
    for field in ("modalities", "anatomies", "tasks", "diseases"):
        for word in facts[field]:
            _add(subjects, "subject", word)
    if doi:
        others = _add(root, "alternateIdentifiers")
        _add(others, "alternateIdentifier", page, alternateIdentifierType="URL")
    if facts["licence"]:
        url = licence_url(facts["licence"])
        rights = _add(_add(root, "rightsList"), "rights", facts["licence"])
        if url:
            rights.set("rightsURI", url)
    _add(_add(root, "descriptions"), "description", describe(facts), descriptionType="Abstract")
    return root


def _add(parent: Element, name: str, text: object = None, **attributes: str) -> Element:
    made = SubElement(parent, f"{{{DATACITE}}}{name}", attributes)
    made.text = None if text is None else plain(text)
    return made


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "oai_dc": Format("http://www.openarchives.org/OAI/2.0/oai_dc.xsd", OAI_DC, dublin_core),
        "oai_datacite": Format(
            "http://schema.datacite.org/meta/kernel-4.4/metadata.xsd", DATACITE, datacite
        ),
    }
)

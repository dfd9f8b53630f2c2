"""One dataset as JSON-LD: schema.org/Dataset, which Croissant 1.1 extends. Pure.

We hold metadata, not files: there is no `distribution`, and the licence is left out where it is
unknown rather than filled with a default.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from catalog.citation import citation, text_of
from catalog.describe import count_text, describe
from catalog.licences import licence_url

_CR_TERMS = (
    "arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "extract", "field",
    "fileObject", "fileProperty", "fileSet", "format", "includes", "isArray", "isLiveDataset",
    "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex",
    "repeated", "replace", "samplingRate", "separator", "source", "subField", "transform",
)  # fmt: skip
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
    "odrl": "http://www.w3.org/ns/odrl/2/",
    "prov": "http://www.w3.org/ns/prov#",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    **{term: f"cr:{term}" for term in _CR_TERMS},
}
CONFORMS_TO = "http://mlcommons.org/croissant/1.1"


def dataset_jsonld(facts: Mapping[str, Any], page: str) -> dict[str, Any]:
    """The Croissant description of a dataset; `page` is the address of its catalog page."""
    cited = citation(facts)
    data: dict[str, Any] = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": facts["name"],
        "alternateName": facts["aliases"] or None,
        "description": describe(facts),
        "url": facts["homepage"] or page,
        "identifier": f"https://doi.org/{facts['doi']}" if facts["doi"] else facts["slug"],
        "sameAs": [link["url"] for link in facts["links"] if link["kind"] == "official"] or None,
        "license": _licences(facts) or None,
        "isAccessibleForFree": True if facts["access"] in {"open", "registration"} else None,
        "conditionsOfAccess": facts["access"],
        "creator": _creator(facts, cited),
        "publisher": _organisation(facts["publisher"]),
        "datePublished": f"{facts['year']}-01-01" if facts["year"] else None,
        "citeAs": text_of(cited),
        "keywords": [*facts["modalities"], *facts["anatomies"], *facts["tasks"]] or None,
        "measurementTechnique": facts["modalities"] or None,
        "about": [{"@type": "sc:MedicalCondition", "name": name} for name in facts["diseases"]]
        or None,
        "size": "; ".join(count_text(count) for count in facts["counts"]) or None,
        "isPartOf": [row["to"] for row in facts["relations"] if row["kind"] == "part_of"] or None,
        "includedInDataCatalog": {"@type": "sc:DataCatalog", "name": "Imaging-X Portal"},
        "subjectOf": {"@type": "sc:WebPage", "url": page},
    }
    return {key: value for key, value in data.items() if value is not None}


def _licences(facts: Mapping[str, Any]) -> list[str]:
    ids = dict.fromkeys(filter(None, (facts["licence"], facts["licence_labels"])))
    return [licence_url(licence) or licence for licence in ids]


def _creator(facts: Mapping[str, Any], cited: Mapping[str, Any]) -> Any:
    people = [{"@type": "sc:Person", "name": name} for name in cited["authors"]]
    return people or _organisation(facts["publisher"])


def _organisation(name: str | None) -> dict[str, str] | None:
    return {"@type": "sc:Organization", "name": name} if name else None

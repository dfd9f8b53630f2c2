"""The page of one dataset: facts with their evidence, terms, relations, partners, how to get it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.http import require_safe

from catalog.citation import citation, text_of
from catalog.claims import sources
from catalog.croissant import dataset_jsonld
from catalog.links import links_of
from catalog.models import CatalogChange, Correction, Dataset
from catalog.record import NONE, states_none
from catalog.search.index import current_key
from catalog.selection import neighbours
from fusion.acquisition import plan_of, timed
from fusion.recipe_files import descriptions_of, shipped_recipes
from fusion.services import partners
from portal.web.graph import graph_of
from portal.web.paging import question
from portal.web.words import ACCESS, licence_lines, relation_words, texts, value_text

PARTNERS_SHOWN = 5
CHANGES_SHOWN = 10


@dataclass(frozen=True)
class Fact:
    """One field of a dataset as its page shows it, with the claims behind it."""

    field: str
    title: str
    facet: str
    values: list[str]
    claims: list[dict[str, Any]]
    conflict: bool


FACTS = (
    ("year", "Year", "year"),
    ("modalities", "Modality", "modality"),
    ("modality_details", "Sequence, stain or phase", ""),
    ("anatomies", "Anatomy", "anatomy"),
    ("diseases", "Disease", "disease"),
    ("tasks", "Task", "task"),
    ("dimensions", "Dimension", "dimension"),
    ("counts", "Size", ""),
    ("labelled", "Labels", ""),
    ("annotation", "Labelled how", ""),
    ("classes", "Classes", ""),
    ("spacing", "Voxel size", ""),
    ("file_formats", "File format", ""),
    ("size_bytes", "Bytes", ""),
    ("licence", "Licence", ""),
    ("licence_labels", "Licence of the labels", ""),
    ("access", "Access", ""),
    ("publisher", "Publisher", ""),
    ("doi", "DOI", ""),
)
FIELD_TITLES = {
    **{field: title for field, title, _ in FACTS},
    "citation": "Work to cite",
    "links": "Address",
}
# Shown only where a source states them.
ONLY_IF_KNOWN = frozenset(
    {"modality_details", "annotation", "classes", "spacing", "file_formats", "size_bytes"}
    | {"licence_labels", "publisher", "doi"}
)
PLACES = {
    "idc": "Imaging Data Commons",
    "openneuro": "OpenNeuro",
    "huggingface": "Hugging Face",
    "zenodo": "Zenodo",
    "figshare": "figshare",
    "mendeley": "Mendeley Data",
    "kaggle": "Kaggle",
    "synapse": "Synapse",
    "physionet": "PhysioNet",
    "s3": "a bucket of S3",
    "http": "its address",
}
NEEDS = {
    "none": "none",
    "account": "one must sign in, and perhaps accept terms",
    "application": "one must apply: a person decides",
    "unknown": "unknown",
}
BESIDE = frozenset({"licence", "licence_labels", "access"})


@require_safe
def detail(request: HttpRequest, slug: str) -> HttpResponse:
    """Facts of one dataset with the claims behind each; what is unknown is shown as unknown."""
    dataset = get_object_or_404(Dataset, slug=slug)
    record = dataset.record
    facts = [
        fact
        for fact in (fact_of(record, *row) for row in FACTS)
        if fact.values or fact.field not in ONLY_IF_KNOWN
    ]
    page = request.build_absolute_uri(reverse("dataset", args=[slug]))
    key = current_key()
    plan = timed(plan_of(record))
    known = neighbours(key)
    relations = [
        {
            **row,
            "name": known.name(row["to"]) if row["to"] in known else row["to"],
            "words": relation_words(row["kind"], inverse=bool(row.get("inverse"))),
        }
        for row in record["relations"]
    ]
    context = {
        "dataset": dataset,
        "record": record,
        "facts": [fact for fact in facts if fact.field not in BESIDE],
        "beside": {fact.field: fact for fact in facts if fact.field in BESIDE},
        "licence": licence_lines(dataset.licence),
        "access": ACCESS[dataset.access],
        "plan": plan,
        "plan_place": PLACES.get(plan.connector, ""),
        "plan_needs": NEEDS[plan.needs],
        "plan_location": json.dumps(plan.location),
        "used_in": _recipes_with(slug),
        "descriptions": descriptions_of(slug),
        "relations": relations,
        "graph": graph_of(relations),
        "family": _family(dataset),
        "changes": _changes(slug),
        "corrections": [
            (FIELD_TITLES[one.field], one)
            for one in Correction.objects.accepted().filter(slug=slug)
        ],
        "similar": known.of(slug),
        "partners": partners(key).of(slug, PARTNERS_SHOWN),
        "alike": question(_alike(dataset)),
        "sources": [
            (sources()[ref["id"]], ref) for ref in record["sources"] if ref["id"] in sources()
        ],
        "links": links_of(record),
        "cite": text_of(citation(record)),
        "jsonld": dataset_jsonld(record, page),
    }
    return render(request, "datasets/detail.html", context)


def _changes(slug: str) -> list[dict[str, Any]]:
    """What versions of the catalog changed in it, the newest first."""
    rows = CatalogChange.objects.filter(slug=slug).select_related("revision")
    return [
        {
            "version": row.revision,
            "kind": row.kind,
            "fields": [
                (FIELD_TITLES.get(name, name), texts(name, old), texts(name, new))
                for name, (old, new) in row.fields.items()
            ],
        }
        for row in rows.order_by("-revision__number")[:CHANGES_SHOWN]
    ]


def fact_of(record: dict[str, Any], field: str, title: str = "", facet: str = "") -> Fact:
    """One field with the claims behind it."""
    claims = [
        {**claim, "text": value_text(field, claim["value"])}
        for claim in record["claims"]
        if claim["field"] == field
    ]
    value = record[field]
    unknown = value is None or value == "unknown"
    values = value if isinstance(value, list) else [] if unknown else [value]
    if states_none(record, field):
        values = [NONE]
    shown = [text for one in values if (text := value_text(field, one))]
    return Fact(field, title, facet, shown, claims, field in record["conflicts"])


def _family(dataset: Dataset) -> list[Dataset]:
    if not dataset.family:
        return []
    rows = Dataset.objects.filter(family=dataset.family).exclude(pk=dataset.pk)
    return list(rows.only("slug", "name", "year").order_by("year", "slug"))


def _alike(dataset: Dataset) -> list[tuple[str, str]]:
    """The search for all with a modality and an anatomy of this one."""
    pairs = (("modality", dataset.modalities), ("anatomy", dataset.anatomies))
    return [(name, value) for name, values in pairs for value in values]


def _recipes_with(slug: str) -> list[tuple[str, str]]:
    return [
        (name, str(recipe["title"]))
        for name, recipe in shipped_recipes().items()
        if any(source["dataset"] == slug for source in recipe["sources"])
    ]

"""Labels: what each value of the sources means, and what comes of it."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

from catalog import concepts
from catalog.faults import FaultsError
from catalog.services import facts_of
from fusion.errors import Problem, RecipeError
from fusion.label_choices import (
    MODES,
    Kept,
    SourceLabels,
    concept_label,
    meaning_text,
    read_meaning,
    with_meanings,
)
from fusion.recipe_draft import (
    CONVERTED,
    TASKS,
    Checked,
    Draft,
    DraftSource,
    check_shape,
    conversion,
)
from fusion.recipe_files import descriptions_of, parse
from fusion.services import labels
from portal.web.recipes import read_text
from portal.web.wizard.form import (
    Applied,
    Data,
    Typed,
    asks,
    changed,
    name_of,
    one_of,
    part,
    put,
    wrong_value,
)

FEW_LABELS = 12


def apply(draft: Draft, request: HttpRequest) -> Applied:
    form, wrong = request.POST, list[Problem]()
    data = changed(draft)
    data["task"] = one_of(form, "task", TASKS, draft.task, wrong)
    data["mode"] = one_of(form, "mode", MODES, data.get("mode", MODES[0]), wrong)
    if asks(form, "concepts"):
        unknown = [one for one in form.getlist("concept") if one not in concepts.concepts()]
        wrong += [wrong_value("concepts", one, "a concept of the table") for one in unknown]
        put(data, "concepts", form.getlist("concept"), [])
    if asks(form, "confounding"):
        put(part(data, "accept"), "confounding", bool(form.get("confounding")), False)
        put(data, "accept", data["accept"], {})
    known = labels(draft).sources
    for index, (source, shown) in enumerate(zip(draft.sources, known, strict=True)):
        try:
            written = _description(index, source, shown, request, wrong)
        except RecipeError as error:
            wrong += error.problems
            continue
        row = data["sources"][index]
        if written is not None:
            row["description"] = written
        _convert(row, data["task"], written if written is not None else source.data)
    return data, wrong


def _convert(row: Data, task: str, written: Any) -> None:
    """Masks serve classes by presence, and boxes by what is around them, where there are none."""
    if row.get("convert") != CONVERTED.get(task):
        row.pop("convert", None)
    if isinstance(written, str):
        found = dict(descriptions_of(row.get("dataset", ""))).get(written)
        if found is None:
            return
        has = {"has_classes": bool(found.classes), "has_boxes": found.has_boxes}
    elif written is None:
        return
    else:
        layers = written.get("layers") if isinstance(written.get("layers"), list) else []
        drawn = any(isinstance(one, dict) and one.get("kind") == "shapes" for one in layers)
        has = {"has_classes": bool(written.get("classes")), "has_boxes": drawn}
    if convert := conversion(task, **has):
        row["convert"] = convert


def _description(
    index: int, source: DraftSource, shown: SourceLabels, request: HttpRequest, wrong: list[Problem]
) -> Any:
    """A source's description by the form: an upload, another shipped one, or other meanings.

    None when the form says nothing of it.

    Raises:
        RecipeError: an uploaded file is no description.
    """
    form = request.POST
    place = f"sources[{index}].description"
    if upload := request.FILES.get(f"description-{index}"):
        data = parse(read_text(upload, place))
        check_shape(data, place)
        return data
    name = form.get(f"shipped-{index}", "")
    if name and name != source.shipped and name in dict(descriptions_of(source.dataset)):
        return name
    if source.data is None:
        return None
    chosen = {}
    for number, label in enumerate(shown.labels):
        text = form.get(f"take-{index}-{number}") or form.get(f"meaning-{index}-{number}")
        if text is None or text == meaning_text(label.meaning):
            continue
        try:
            chosen[label.key] = read_meaning(text, f"{place}.{label.key}")
        except FaultsError as error:
            fault = error.faults[0]
            wrong.append(wrong_value(fault.path, fault.found, fault.expected, fault.nearest or ""))
    written = with_meanings(source.data, chosen)
    if asks(form, f"covers-{index}"):
        put(written, "covers", form.getlist(f"covers-{index}"), [])
    return written


def context(draft: Draft, _: Checked, typed: Typed) -> Data:
    known = labels(draft)
    facts = facts_of(draft.slugs)
    mode = draft.data.get("mode", MODES[0])
    names = {one.id: name_of(one, facts) for one in draft.sources}
    meanings = known.meanings
    asked = set(draft.names("concepts"))
    return {
        "tasks": TASKS,
        "modes": [
            {"name": name, "is_chosen": name == mode, "outcome": outcome,
             "sources": [(names[key], _outcome_row(kept)) for key, kept in outcome.sources.items()],
             "labels": [concept_label(one) for one in outcome.concepts]}
            for name, outcome in known.outcomes.items()
        ],
        "mode": mode,
        "concepts": sorted(concepts.concepts().values(), key=lambda row: row.label),
        "sources": [
            _labels_card(i, source, shown, names[source.id], typed)
            for i, (source, shown) in enumerate(zip(draft.sources, known.sources, strict=True))
        ],
        "names": [names[one.id] for one in draft.sources],
        "candidates": [
            {"id": one, "label": concept_label(one), "is_asked": one in asked,
             "in": [name for name, out in known.outcomes.items() if one in out.concepts],
             "cells": [", ".join(meanings[s.id].get(one, ())) for s in draft.sources]}
            for one in known.candidates
        ],
        "confounding": draft.part("accept").get("confounding"),
        "is_classes": draft.task == "classification",
    }  # fmt: skip


def _outcome_row(kept: Kept) -> Data:
    return {"lost": kept.lost, "unlabelled": [concept_label(one) for one in kept.unlabelled]}


def _labels_card(
    index: int, source: DraftSource, shown: SourceLabels, name: str, typed: Typed
) -> Data:
    rows = [
        {
            "id": f"meaning-{index}-{number}",
            "take": f"take-{index}-{number}",
            "label": one,
            "text": typed.get(f"meaning-{index}-{number}", meaning_text(one.meaning)),
            "proposals": [
                (concept_label(proposed), score) for proposed, score in one.proposals
            ] if not one.is_decided else [],
        }
        for number, one in enumerate(shown.labels)
    ]  # fmt: skip
    options = [name for name, _ in descriptions_of(source.dataset)]
    if source.data is not None and not source.shipped:
        options.insert(0, "")
    return {
        "index": index,
        "source": source,
        "name": name,
        "rows": rows,
        "is_open": len(rows) <= FEW_LABELS or any(not one["label"].is_decided for one in rows),
        "undecided": sum(not one.is_decided for one in shown.labels),
        "listed": [
            {"label": one, "concept": concept_label(one.concept) if one.concept else ""}
            for one in shown.listed
        ],
        "options": options,
        "covers_open": bool(shown.can_cover),
        "covers": [
            {"id": one, "label": concept_label(one), "is_covered": one in shown.covers}
            for one in (*shown.covers, *shown.can_cover)
        ],
    }

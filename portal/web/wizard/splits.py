"""Splits: protocol, shares, people and overlaps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest

from catalog.services import facts_of, overlap_graph
from fusion.errors import Problem
from fusion.recipe import Recipe, Splits
from fusion.recipe_draft import (
    Checked,
    Draft,
    overlaps_of,
)
from portal.web.wizard.form import (
    Applied,
    Data,
    Typed,
    asks,
    changed,
    gates,
    invalid,
    name_of,
    number,
    one_of,
    part,
    put,
    wrong_value,
)

PROTOCOLS = {
    "holdout": ("Holdout", "Train, validation and test once, by the shares below."),
    "kfold": ("K-fold", "Five folds: each case is tested once."),
    "loso": ("Leave one source out", "Each source is tested by a model that never saw it."),
}
PLANS = {
    "": "none: the sources share nothing",
    "drop_child_copies": "of an image that two sources hold, one copy with one label stays",
    "keep_relabelled": "one copy stays, with the labels of both as layers",
    "refuse": "stop when two sources share an image",
}
SHARES = ("train", "val", "test")


def apply(draft: Draft, request: HttpRequest) -> Applied:
    form, wrong = request.POST, list[Problem]()
    data = changed(draft)
    splits = part(data, "splits")
    default = Splits()
    splits["protocol"] = one_of(
        form, "protocol", PROTOCOLS, splits.get("protocol", default.protocol), wrong
    )
    if "train" in form:
        shares = {name: number(form, name, f"splits.{name}", wrong) for name in SHARES}
        given = {name: round((share or 0) / 100, 6) for name, share in shares.items()}
        is_default = given == {name: getattr(default, name) for name in SHARES}
        for name in SHARES:
            put(splits, name, None if is_default else given[name], None)
    if asks(form, "official_val"):
        put(splits, "official_val", bool(form.get("official_val")), False)
    if not wrong:
        invalid(data, "splits", Splits, wrong)
    if "seed" in form:
        text = form["seed"].strip()
        if text.isascii() and text.isdigit() and len(text) < len(str(10**12)):
            put(data, "seed", int(text), Recipe.model_fields["seed"].default)
        else:
            wrong.append(wrong_value("seed", text, "a whole number"))
    plan = one_of(form, "overlap_plan", PLANS, data.get("overlap_plan") or "", wrong)
    put(data, "overlap_plan", plan or None, None)
    accept = part(data, "accept")
    if asks(form, "unknown_subjects"):
        put(accept, "unknown_subjects", form.getlist("unknown_subjects"), [])
    if asks(form, "overlap"):
        rows = [
            {"datasets": list(row.datasets), "reason": reason}
            for number, row in enumerate(overlaps_of(draft, overlap_graph()))
            if (reason := form.get(f"reason-{number}", "").strip())
        ]
        put(accept, "overlap", rows, [])
    put(data, "accept", accept, {})
    return data, wrong


def context(draft: Draft, found: Checked, typed: Typed) -> Data:
    facts = facts_of(draft.slugs)
    splits, accept = draft.part("splits"), draft.part("accept")
    default = Splits()
    reasons = {
        frozenset(row["datasets"]): row.get("reason", "")
        for row in accept.get("overlap") or ()
        if isinstance(row, Mapping) and isinstance(row.get("datasets"), (list, tuple))
    }
    overlaps = [
        {"row": row, "names": [facts.get(slug, {}).get("name", slug) for slug in row.datasets],
         "reason": reasons.get(frozenset(row.datasets), ""), "is_sure": row.certainty != "possible"}
        for row in overlaps_of(draft, overlap_graph())
    ]  # fmt: skip
    return {
        "protocols": PROTOCOLS,
        "protocol": splits.get("protocol", default.protocol),
        "shares": [
            (name, typed.get(name) or _percent(splits.get(name, getattr(default, name))))
            for name in SHARES
        ],
        "official_val": splits.get("official_val"),
        "seed": typed.get("seed") or draft.data.get("seed", Recipe.model_fields["seed"].default),
        "plans": PLANS,
        "plan": draft.data.get("overlap_plan") or "",
        "overlaps": overlaps,
        "people": [
            {"id": one.id, "name": name_of(one, facts), "is_known": one.description is not None,
             "has_ids": bool(one.description and one.description.cases.has_subjects),
             "is_accepted": one.id in draft.names("unknown_subjects", "accept")}
            for one in draft.sources
        ],
        "gates": gates(found, "E07", "E11", "E13"),
    }  # fmt: skip


def _percent(share: Any) -> Any:
    return f"{share * 100:g}" if isinstance(share, (int, float)) else share

"""Target: profile, voxel size, channels and views of the bundle."""

from __future__ import annotations

from typing import get_args

from django.http import HttpRequest

from catalog.services import facts_of
from fusion.errors import Problem
from fusion.recipe import Recipe, Target
from fusion.recipe_draft import (
    Checked,
    Draft,
)
from portal.web.bundles import VIEW_LABELS
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

PROFILES = {
    "native": "As received: voxels, orientation and values stay as the publisher wrote them.",
    "canonical": "Turned to one orientation and one unit; nothing is resampled.",
    "grid": "Canonical, then resampled to one voxel size.",
}
VIEWS: tuple[str, ...] = get_args(get_args(Recipe.model_fields["views"].annotation)[0])


def apply(draft: Draft, request: HttpRequest) -> Applied:
    form, wrong = request.POST, list[Problem]()
    data = changed(draft)
    target = part(data, "target")
    profile = one_of(form, "profile", PROFILES, target.get("profile", "canonical"), wrong)
    target["profile"] = profile
    if "spacing-0" in form:
        sizes = [number(form, f"spacing-{axis}", f"target.spacing_mm[{axis}]", wrong)
                 for axis in range(3)]  # fmt: skip
        if profile != "grid":
            target.pop("spacing_mm", None)
        elif not wrong:
            missing = [f"target.spacing_mm[{axis}]" for axis in range(3) if sizes[axis] is None]
            wrong += [wrong_value(path, "nothing", "a voxel size in mm") for path in missing]
            target["spacing_mm"] = sizes
    if not wrong:
        invalid(data, "target", Target, wrong)
    if asks(form, "channels"):
        put(data, "channels", form.getlist("channel") or None, None)
    if asks(form, "views"):
        views = [one for one in VIEWS if one in form.getlist("view")]
        put(data, "views", views, list(Recipe.model_fields["views"].default))
    return data, wrong


def context(draft: Draft, found: Checked, typed: Typed) -> Data:
    facts = facts_of(draft.slugs)
    chosen_views = draft.names("views") or Recipe.model_fields["views"].default
    target = draft.part("target")
    stated = target.get("spacing_mm")
    if not isinstance(stated, list) or len(stated) != 3:  # noqa: PLR2004
        stated = ["", "", ""]
    channels = {
        name: [name_of(one, facts) for one in draft.sources
               if one.description and name in one.description.cases.channel_names()]
        for source in draft.sources if source.description
        for name in source.description.cases.channel_names()
    }  # fmt: skip
    chosen = draft.names("channels")
    return {
        "profiles": PROFILES,
        "profile": typed.get("profile") or target.get("profile", "canonical"),
        "spacing": [
            (axis, typed.get(f"spacing-{axis}", stated[axis])) for axis in range(3)
        ],
        "medians": [
            (facts[slug]["name"], (facts[slug]["spacing"] or {}).get("median_mm"))
            for slug in draft.slugs if slug in facts
        ],
        "channels": [(name, who, name in chosen) for name, who in channels.items()],
        "number_of_sources": len(draft.sources),
        "views": [(name, VIEW_LABELS[name], name in chosen_views) for name in VIEWS],
        "gates": gates(found, "E02", "E03", "E06"),
    }  # fmt: skip

"""Start: the title, the baseline and everything that still stands in the way."""

from __future__ import annotations

from django.http import HttpRequest

from fusion.errors import Problem
from fusion.recipe import BaselineChoice
from fusion.recipe_draft import (
    Checked,
    Draft,
)
from portal.web.wizard.form import (
    Applied,
    Data,
    Typed,
    changed,
    one_of,
    put,
    wrong_value,
)

TIERS = {
    "none": "none",
    "smoke": "smoke: minutes, shows that it can be learnt from, never a verdict",
    "small": "small: hours on a CPU",
    "standard": "standard: a GPU",
}


def apply(draft: Draft, request: HttpRequest) -> Applied:
    form, wrong = request.POST, list[Problem]()
    data = changed(draft)
    for name, fewest in (("title", 3), ("about", 0)):
        text = " ".join(form.get(name, str(data.get(name, ""))).split())
        if not fewest <= len(text) <= (200 if name == "title" else 2000):
            wrong.append(wrong_value(name, text[:80] or "nothing", "3 to 200 characters"))
        put(data, name, text, "")
    tier = one_of(form, "tier", TIERS, draft.part("baseline").get("tier", "smoke"), wrong)
    data["baseline"] = {"tier": tier}
    return data, wrong


def context(draft: Draft, found: Checked, typed: Typed) -> Data:
    return {
        "name": typed.get("title") or draft.data.get("title", ""),
        "about": typed.get("about") or draft.data.get("about", ""),
        "tiers": TIERS,
        "tier": draft.part("baseline").get("tier", BaselineChoice().tier),
        "gates": found.gates,
        "undescribed": draft.undescribed,
    }

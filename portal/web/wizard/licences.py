"""Licences and files: what may be passed on, and how each source is got."""

from __future__ import annotations

import copy

from django.http import HttpRequest, QueryDict

from catalog.services import facts_of
from fusion.errors import Problem
from fusion.recipe_draft import (
    BELOW_ROOT,
    Checked,
    Draft,
    DraftSource,
    Outlook,
)
from fusion.services import outlooks
from portal.web.wizard.form import (
    Applied,
    Data,
    Typed,
    changed,
    gates,
    name_of,
    one_of,
    wrong_value,
)
from portal.web.words import licence_lines

BUILDS = {
    "private": "Everything is in the bundle. It stays with you.",
    "shareable": "Only what every licence lets you pass on; the rest as a recipe that rebuilds it.",
}
#: What only the page of a dataset tells, and the pattern of its value.
PINS = {"revision": "full commit hash", "version": "number of the version", "sha256": "SHA-256"}


def apply(draft: Draft, request: HttpRequest) -> Applied:
    form, wrong = request.POST, list[Problem]()
    data = changed(draft)
    data["build"] = one_of(form, "build", BUILDS, data.get("build", "private"), wrong)
    for index, one in enumerate(outlooks(draft)):
        how = form.get(f"place-{index}")
        if how == "local":
            path = form.get(f"path-{index}", "").strip()
            where = f"sources[{index}].location.path"
            if not path or ".." in path.split("/") or path.startswith("/"):
                expected = "a folder below the data root, without '..' or a leading '/'"
                wrong.append(wrong_value(where, path or "nothing", expected))
            held = data["sources"][index].get("location", {})
            by_hand = held if held.get("kind") in BELOW_ROOT else {"kind": "local"}
            data["sources"][index]["location"] = {**by_hand, "path": path}
        elif how == "fetch" and one.acquisition and one.acquisition.is_automatic:
            data["sources"][index]["location"] = _fetched(form, index, one)
    return data, wrong


def _fetched(form: QueryDict, index: int, one: Outlook) -> Data:
    """The catalog's location with what a person read off the dataset's page."""
    location: Data = copy.deepcopy(dict((one.acquisition and one.acquisition.location) or {}))
    for key in PINS:
        if value := form.get(f"{key}-{index}", "").strip():
            if key == "sha256":
                location["files"][0][key] = value
            else:
                location[key] = int(value) if value.isascii() and value.isdigit() else value
    return location


def context(draft: Draft, found: Checked, typed: Typed) -> Data:
    facts = facts_of(draft.slugs)
    build = draft.data.get("build", "private")
    rows = [
        _licence_card(index, source, one, name_of(source, facts), typed)
        | {"is_kept": not _about_location(found, index)}
        for index, (source, one) in enumerate(zip(draft.sources, outlooks(draft), strict=True))
    ]
    return {
        "builds": BUILDS,
        "build": build,
        "sources": rows,
        "held": [row for row in rows if row["outlook"].why],
        "gates": gates(found, "E08", "E09", "E12"),
    }


def _licence_card(index: int, source: DraftSource, one: Outlook, name: str, typed: Typed) -> Data:
    location = dict(source.location)
    plan = None if source.own else one.acquisition
    planned = dict((plan and plan.location) or {})
    if source.own:
        how = "own"
    elif location.get("kind") in BELOW_ROOT:
        how = "local"
    else:
        how = "fetch" if location.get("kind") == planned.get("kind") else "written"
    first = (location.get("files") or [{}])[0] if isinstance(location.get("files"), list) else {}
    return {
        "index": index,
        "source": source,
        "name": name,
        "outlook": one,
        "plan": plan,
        "how": typed.get(f"place-{index}") or how,
        "path": typed.get(f"path-{index}") or location.get("path") or source.dataset,
        "pins": [
            (key, PINS[key], first.get(key) or location.get(key) or "")
            for key in (plan.to_pin if plan else ())
        ],
        "terms": [(part, text, licence_lines(text)) for part, text in _told(one)],
    }


def _about_location(found: Checked, index: int) -> bool:
    return any(one.path.startswith(f"sources[{index}].location") for one in found.problems)


def _told(one: Outlook) -> list[tuple[str, str]]:
    """Licences by part, once where they are one."""
    parts = list(one.licences.items())
    if len({text for _, text in parts}) == 1:
        return [("images and labels", parts[0][1])]
    return parts

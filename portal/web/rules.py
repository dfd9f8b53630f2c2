"""Rules: choose datasets by the published rule JSON; what a page shows is in its address."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from catalog import vocab
from catalog.faults import closest
from catalog.models import Dataset
from catalog.rule_checks import CHECKS
from catalog.rule_pool import POOL_RULES, Line
from catalog.rule_selection import Comparison, Selection, compare, search_params
from catalog.rules import (
    KEYS,
    PROFILES,
    TEXT,
    Profile,
    RuleFault,
    Rules,
    RulesError,
    check_rules,
    parse_rules,
)
from portal.web.paging import LONGEST_ADDRESS, Pages

PARAMETERS = ("rules", "profile", "show", "rule", "page")
SHOW = ("kept", "dropped")
PER_PAGE = 50
DIFFERENCES_SHOWN = 40
NUMBERS = frozenset(
    {"min_valid_image_n_per_dataset", "selection.storage_budget_gb"}
    | {"selection.min_datasets_per_modality", "selection.min_orgs_per_modality"}
)
LISTS = frozenset({"modalities", "task_types", "license_allowlist", "anatomy_whitelist"})
LABELS = {
    "dimension": "Dimension",
    "include_mixed": "Include mixed dimensions",
    "modalities": "Modalities",
    "task_types": "Tasks",
    "license_allowlist": "Licences",
    "include_unlabeled": "Include unlabelled datasets",
    "prefer_labeled": "Prefer labelled datasets",
    "min_valid_image_n_per_dataset": "Images at least",
    "anatomy_whitelist": "Anatomies",
    "release_date_min": "Released since",
    "allow_3d_as_2d_sources": "Allow volumes as sources of 2D slices",
    "selection.enable": "Select among the datasets that are left",
    "selection.min_datasets_per_modality": "Datasets in a modality at least",
    "selection.min_orgs_per_modality": "Organisations in a modality at least",
    "selection.storage_budget_gb": "Storage budget in GB",
    "selection.include_unknown_size": "Include datasets of unknown size",
}


@require_http_methods(["GET", "HEAD", "POST"])
def index(request: HttpRequest) -> HttpResponse:
    """Rules as a form and as JSON, the four phases, and the datasets kept or dropped."""
    if request.method == "POST":
        return _start(request)
    text = request.GET.get("rules", "")
    try:
        _check_parameters(request.GET)
        rules = parse_rules(text) if text.strip() else Rules()
        return _answer(request, rules, request.GET)
    except RulesError as error:
        return _refused(request, error, text)


def _start(request: HttpRequest) -> HttpResponse:
    """Rules from the form or the text field; the answer stands at an address of its own."""
    profile = request.POST.get("profile", "stated")
    data: dict[str, Any] | None = None
    text = request.POST.get("rules", "")
    try:
        if request.POST.get("from") == "form":
            data = _from_form(request.POST)
            text = json.dumps(data, indent=2, ensure_ascii=False)
            rules = check_rules(data)
        else:
            rules = parse_rules(text)
    except RulesError as error:
        return _refused(request, error, text, data)
    address = _address(rules, {"profile": profile})
    if len(address) > LONGEST_ADDRESS:
        return _answer(request, rules, {"profile": profile})
    return redirect(address)


def _answer(request: HttpRequest, rules: Rules, params: Mapping[str, str]) -> HttpResponse:
    profile = cast("Profile", _one_of("profile", params.get("profile", "stated"), tuple(PROFILES)))
    asked = tuple(check.rule for check in CHECKS[profile])
    show = _one_of("show", params.get("show", "kept"), SHOW)
    rule = params.get("rule", "")
    if rule:
        _one_of("rule", rule, (*asked, *POOL_RULES))
        show = "dropped"
    compared = compare(Dataset.objects.facts(), rules)
    selection: Selection = getattr(compared, profile)
    state = {"profile": profile, "show": show, "rule": rule}
    rows = [row for row in selection.dropped if rule in {"", row.rule}]
    listed: list[Any] = list(selection.kept) if show == "kept" else rows
    page, pages = _page(listed, rules, state, params.get("page", "1"))
    pairs, unsaid = search_params(rules)
    context = {
        **_editor(rules.as_dict()),
        "edit": not rules.differences(),
        "selection": selection,
        "profiles": [
            {
                "name": name,
                "about": about,
                "url": _address(rules, {"profile": name}),
                "current": name == profile,
            }
            for name, about in PROFILES.items()
        ],
        "phases": [
            {
                "phase": phase,
                "rules": [
                    (row, _address(rules, {"profile": profile, "rule": row.rule}) + "#datasets")
                    for row in phase.rules
                    if row.asks
                ],
                "lines": [_figures(line) for line in (*phase.lines, phase.total)],
            }
            for phase in selection.phases
        ],
        "comparison": _comparison(compared),
        "only": [
            ("stated", "as stated", compared.only_stated[:DIFFERENCES_SHOWN]),
            ("compatibility", "by compatibility", compared.only_compatibility[:DIFFERENCES_SHOWN]),
        ],
        "only_counts": {
            "stated": len(compared.only_stated),
            "compatibility": len(compared.only_compatibility),
        },
        "show": show,
        "rule": rule,
        "listed": page,
        "number": len(listed),
        "pages": pages,
        "tabs": [
            {
                "label": f"{name.capitalize()} ({number:,})",
                "url": _address(rules, {"profile": profile, "show": name}) + "#datasets",
                "current": name == show and not rule,
            }
            for name, number in (
                ("kept", len(selection.kept)),
                ("dropped", len(selection.dropped)),
            )
        ],
        "as_search": f"{reverse('datasets')}?{urlencode(pairs)}" if pairs else reverse("datasets"),
        "unsaid": unsaid,
        "api_url": request.build_absolute_uri(reverse("api:rules")),
        "profile": profile,
    }
    return render(request, "rules.html", context)


def _refused(
    request: HttpRequest, error: RulesError, text: str, data: dict[str, Any] | None = None
) -> HttpResponse:
    """What was written, with everything that is wrong; nothing is applied."""
    context = {
        **_editor(data or Rules().as_dict()),
        "problems": error.errors,
        "profile": "stated",
        "edit": True,
    }
    if text:
        context["text"] = text
    return render(request, "rules.html", context, status=400)


def _editor(data: Mapping[str, Any]) -> dict[str, Any]:
    flat = {**data, **{f"selection.{key}": value for key, value in data["selection"].items()}}
    known = [term for term in vocab.terms("dimension") if term != TEXT]
    fields = []
    for key in KEYS:
        value = flat[key.name]
        if isinstance(value, list):
            value = ", ".join(value)
        fields.append(
            {
                "name": key.name,
                "id": key.name.replace(".", "-"),
                "label": LABELS[key.name],
                "kind": _kind(key.name),
                "value": "" if value is None else value,
                "key": key,
                "options": known if key.name == "dimension" else (),
            }
        )
    return {
        "fields": fields,
        "text": json.dumps(dict(data), indent=2, ensure_ascii=False),
    }


def _kind(name: str) -> str:
    if name == "dimension":
        return "select"
    if name in NUMBERS:
        return "number"
    return "text" if name in LISTS or name == "release_date_min" else "checkbox"


def _from_form(form: QueryDict) -> dict[str, Any]:
    """The form's fields as a rule file; what is no number stays text and is refused as such."""
    values = {key.name: _value(key.name, form.get(key.name, "").strip()) for key in KEYS}
    inside = "selection."
    return {
        **{name: value for name, value in values.items() if not name.startswith(inside)},
        "selection": {
            name.removeprefix(inside): value
            for name, value in values.items()
            if name.startswith(inside)
        },
    }


def _value(name: str, text: str) -> Any:
    kind = _kind(name)
    if kind == "checkbox":
        return bool(text)
    if name in LISTS:
        values = [word.strip() for word in text.split(",") if word.strip()]
        return values or (None if name == "license_allowlist" else [])
    if kind == "number" and text:
        try:
            return int(text) if name != "selection.storage_budget_gb" else float(text)
        except ValueError:
            return text
    return text or None


def _check_parameters(params: QueryDict) -> None:
    unknown = [name for name in params if name not in PARAMETERS]
    if unknown:
        expected = f"one of {', '.join(PARAMETERS)}"
        raise RulesError(
            RuleFault(name, "an unknown parameter", expected, closest(name, PARAMETERS))
            for name in unknown
        )


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        expected = f"one of {', '.join(allowed)}"
        raise RulesError([RuleFault(name, json.dumps(value), expected, closest(value, allowed))])
    return value


def _address(rules: Rules, state: Mapping[str, str]) -> str:
    """The page of these rules; what is a default is left out."""
    different = rules.differences()
    compact = json.dumps(different, separators=(",", ":"), ensure_ascii=False)
    defaults = {"profile": "stated", "show": "kept", "rule": "", "page": "1"}
    pairs = [("rules", compact)] if different else []
    pairs += [(name, value) for name, value in state.items() if value != defaults[name]]
    return f"{reverse('rules')}?{urlencode(pairs)}" if pairs else reverse("rules")


def _page(
    rows: list[Any], rules: Rules, state: Mapping[str, str], text: str
) -> tuple[list[Any], Pages]:
    last = max(1, -(-len(rows) // PER_PAGE))
    if not (text.isascii() and text.isdigit() and len(text) < len(str(10**9)) and int(text) > 0):
        raise RulesError([RuleFault("page", json.dumps(text), "a whole number from 1")])
    number = min(int(text), last)

    def at(other: int) -> str:
        return _address(rules, {**state, "page": str(other)}) + "#datasets"

    before = at(number - 1) if number > 1 else ""
    after = at(number + 1) if number < last else ""
    return rows[(number - 1) * PER_PAGE : number * PER_PAGE], Pages(number, last, before, after)


def _figures(line: Line) -> dict[str, Any]:
    return {
        "line": line,
        "ratio": "unknown" if line.labelled_ratio is None else f"{line.labelled_ratio:.3f}",
        "effective": "unknown" if line.effective_datasets is None else line.effective_datasets,
    }


def _comparison(compared: Comparison) -> list[dict[str, Any]]:
    """For each modality and the total a row of each profile, and of the paper where it fits."""
    stated, other = compared.stated, compared.compatibility
    published = {row["modality"]: row for row in compared.published or ()}
    names = dict.fromkeys(
        line.modality for part in (stated, other) for line in (*part.lines, part.total)
    )
    total = stated.total.modality
    ordered = [*(name for name in names if name != total), total]
    rows: list[dict[str, Any]] = []
    for name in ordered:
        for part, title in ((stated, "as stated"), (other, "compatibility")):
            found = [line for line in (*part.lines, part.total) if line.modality == name]
            rows += [{"modality": name, "source": title, **_figures(line)} for line in found]
        if name in published:
            row = published[name]
            ratio = row["labelled_ratio"]
            shown = "not given" if ratio is None else f"{ratio:.3f}"
            figures = {"line": row, "ratio": shown, "effective": "not given"}
            rows.append({"modality": name, "source": "Table 6 as published", **figures})
    return rows

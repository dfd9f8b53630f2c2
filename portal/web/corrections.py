"""Corrections as pages: suggest one, the curators' queue, and what became of each."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, get_args

from django import forms
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from catalog import curation, vocab
from catalog.corrections import FACET_OF, LICENCES_OF, CorrectionError
from catalog.faults import Fault
from catalog.licences import LICENCES
from catalog.models import Correction, Dataset
from catalog.record import LISTS, UNITS, AccessName, Annotation, LinkKind
from portal.access import is_curator, user_of
from portal.corrections import (
    TooManyCorrectionsError,
    check_curator,
    propose,
    visible_corrections,
)
from portal.web.dataset import FIELD_TITLES, fact_of
from portal.web.paging import paginate
from portal.web.words import texts

DECISIONS: Mapping[str, Callable[[Correction, Any, str], None]] = {
    "accept": curation.accept,
    "reject": curation.reject,
}
CHOICES: Mapping[str, tuple[str, ...]] = {
    "access": get_args(AccessName),
    "annotation": get_args(Annotation),
    "labelled": ("yes", "no"),
    **dict.fromkeys(LICENCES_OF, tuple(LICENCES)),
}
HINTS = {
    "spacing": "Of the median image in mm, as 0.8 x 0.8 x 2.5",
    "citation": 'The title, or JSON such as {"title": "...", "doi": "10.1/x", "year": 2020}',
    "doi": "As 10.5281/zenodo.1234",
    "size_bytes": "A whole number of bytes",
}


class CorrectionForm(forms.Form):
    """What stands for the value depends on the field; the rules are those of record files."""

    unknown = forms.BooleanField(required=False, label="Nobody states it: show it as unknown")
    url = forms.CharField(
        max_length=1000, label="Address of the page that says so", widget=forms.URLInput
    )
    quote = forms.CharField(
        max_length=curation.LONGEST,
        required=False,
        label="In its words",
        widget=forms.Textarea(attrs={"rows": 2}),
    )
    reason = forms.CharField(
        max_length=curation.LONGEST,
        required=False,
        label="Why this value",
        help_text="One of the two is enough.",
        widget=forms.Textarea(attrs={"rows": 2}),
    )

    def __init__(self, name: str, facts: Mapping[str, Any], data: Any = None) -> None:
        super().__init__(data)
        self.name = name
        own = _value_fields(name, facts)
        if name in {"counts", "links"}:
            del self.fields["unknown"]
        self.fields = {**own, **self.fields}
        self.own = tuple(own)

    def value(self) -> Any:
        """The value of a valid form, as corrections take it."""
        given = self.cleaned_data
        if given.get("unknown"):
            return None
        if self.name == "counts":
            return {key: given[key] or None for key in self.own}
        if self.name == "links":
            return {"url": given["address"], "kind": given["kind"]}
        return _read(self.name, given["value"])


def _value_fields(name: str, facts: Mapping[str, Any]) -> dict[str, forms.Field]:
    text: dict[str, Any] = {
        "required": False,
        "label": FIELD_TITLES[name],
        "help_text": HINTS.get(name, ""),
    }
    if name == "counts":
        return {
            "number": forms.IntegerField(min_value=1, label="How many"),
            "unit": forms.ChoiceField(choices=[(unit, unit) for unit in UNITS], label="Of what"),
            "split": forms.CharField(
                required=False, max_length=100, label="In which split (empty: the whole)"
            ),
            "what": forms.CharField(
                required=False, max_length=200, label="Which of them (empty: all)"
            ),
        }
    if name == "links":
        kinds = [(kind, kind) for kind in get_args(LinkKind)]
        return {
            "address": forms.CharField(
                max_length=1000, label="The right address", widget=forms.URLInput
            ),
            "kind": forms.ChoiceField(choices=kinds, label="What is there"),
        }
    shown = facts[name]
    if facet := FACET_OF.get(name):
        terms = [(term, term) for term in vocab.terms(facet)]
        widget = forms.CheckboxSelectMultiple
        return {
            "value": forms.MultipleChoiceField(
                choices=terms,
                widget=widget,
                initial=shown,
                required=False,
                label=FIELD_TITLES[name],
            )
        }
    if name in CHOICES:
        choices = [("", "choose"), *((one, one) for one in CHOICES[name])]
        return {"value": forms.ChoiceField(choices=choices, **text)}
    if name in LISTS:
        area = forms.Textarea(attrs={"rows": 6})
        text["help_text"] = "One on each line"
        initial = "\n".join(shown)
        return {"value": forms.CharField(widget=area, initial=initial, max_length=20_000, **text)}
    return {"value": forms.CharField(max_length=2000, **text)}


def _read(name: str, given: Any) -> Any:
    """Text of the form as a value; what cannot be read stays text, which the rules refuse."""
    if name in FACET_OF:
        return given
    if name in LISTS:
        return [line.strip() for line in given.splitlines() if line.strip()]
    if name in {"spacing", "citation"} and given.startswith("{"):
        try:
            return json.loads(given)
        except (ValueError, RecursionError) as error:
            raise CorrectionError([Fault("value", given, f"JSON ({error})")]) from error
    if name == "spacing":
        return {"median_mm": re.findall(r"\d+(?:\.\d+)?", given)} if given else given
    if name == "citation":
        return {"title": given} if given else given
    return given


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def correct(request: HttpRequest, slug: str) -> HttpResponse:
    """Suggest a correction of the field that the address names; without one it asks which."""
    dataset = get_object_or_404(Dataset, slug=slug)
    name = request.GET.get("field", "")
    context: dict[str, Any] = {"dataset": dataset, "name": name, "fields": FIELD_TITLES}
    if name not in FIELD_TITLES:
        status = HTTPStatus.BAD_REQUEST if name else HTTPStatus.OK
        return render(request, "corrections/suggest.html", context, status=status)
    posted = request.POST if request.method == "POST" else None
    form = CorrectionForm(name, dataset.record, posted)
    context |= {"title": FIELD_TITLES[name], "form": form, "fact": fact_of(dataset.record, name)}
    status = HTTPStatus.OK
    if posted is not None:
        status = HTTPStatus.UNPROCESSABLE_ENTITY
        try:
            if form.is_valid():
                return _proposed(request, dataset, form)
        except CorrectionError as error:
            context["problems"] = error.errors
        except TooManyCorrectionsError as error:
            status = HTTPStatus.TOO_MANY_REQUESTS
            context["problems"] = [{"message": str(error)}]
    return render(request, "corrections/suggest.html", context, status=status)


def _proposed(request: HttpRequest, dataset: Dataset, form: CorrectionForm) -> HttpResponseRedirect:
    evidence = {key: form.cleaned_data[key] for key in ("url", "quote", "reason")}
    given = {"field": form.name, "value": form.value(), **evidence}
    correction, _ = propose(request, dataset, given)
    return redirect("correction", correction.pk)


@never_cache
@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """Curators see what waits for them; others their own, and what was accepted."""
    curator = is_curator(user_of(request))
    states = Correction.State.values
    state = request.GET.get("state") or (states[0] if curator else "all")
    rows = visible_corrections(request)
    if state in states:
        rows = rows.filter(state=state)
    if slug := request.GET.get("slug", ""):
        rows = rows.filter(slug=slug)
    found, pages = paginate(request, rows)
    names = _names({one.slug for one in found})
    also = {"slug": slug} if slug else {}
    context = {
        "rows": [_shown(one, names) for one in found],
        "pages": pages,
        "views": [
            {"title": one, "url": f"?{urlencode({'state': one, **also})}", "current": one == state}
            for one in (*states, "all")
        ],
        "is_curator": curator,
        "slug": slug,
    }
    return render(request, "corrections/list.html", context)


def _names(slugs: set[str]) -> dict[str, str]:
    return dict(Dataset.objects.filter(slug__in=slugs).values_list("slug", "name"))


def _shown(one: Correction, names: Mapping[str, str]) -> dict[str, Any]:
    return {
        "row": one,
        "title": FIELD_TITLES.get(one.field, one.field),
        "name": names.get(one.slug, ""),
        "before": texts(one.field, one.before),
        "after": texts(one.field, one.value),
    }


@never_cache
@require_safe
def detail(request: HttpRequest, correction_id: uuid.UUID) -> HttpResponse:
    """One correction with its evidence, beside what the catalog says now."""
    return _detail(request, get_object_or_404(Correction, pk=correction_id))


def _detail(
    request: HttpRequest, one: Correction, error: Exception | None = None, status: int = 200
) -> HttpResponse:
    dataset = Dataset.objects.filter(slug=one.slug).first()
    context = {
        "one": _shown(one, {one.slug: dataset.name} if dataset else {}),
        "fact": fact_of(dataset.record, one.field) if dataset else None,
        "is_curator": is_curator(user_of(request)),
        "error": error,
        "address": request.build_absolute_uri(reverse("correction", args=[one.pk])),
    }
    return render(request, "corrections/detail.html", context, status=status)


@require_POST
def decide(request: HttpRequest, correction_id: uuid.UUID, decision: str) -> HttpResponse:
    """What a curator decides; the page says why it cannot be."""
    if user_of(request) is None:
        return redirect_to_login(reverse("correction", args=[correction_id]))
    curator = check_curator(request)
    one = get_object_or_404(Correction, pk=correction_id)
    try:
        DECISIONS[decision](one, curator, request.POST.get("reason", "").strip())
    except CorrectionError as error:
        return _detail(request, one, error, HTTPStatus.UNPROCESSABLE_ENTITY)
    except curation.DecisionError as error:
        return _detail(request, one, error, HTTPStatus.CONFLICT)
    return redirect("correction", one.pk)

"""Which files of a dataset are fetched: all or a part, as its place states them now."""

from __future__ import annotations

import json
from http import HTTPStatus

from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from catalog.models import Dataset
from fusion.acquisition import narrowed, plan_of, timed
from fusion.errors import BuildError
from portal.access import SignInError
from portal.acquisition import asked_plan

PARTS = ("subjects", "modality", "body_part", "patterns")
MOST_SUBJECTS = 7  # digits


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def index(request: HttpRequest, slug: str) -> HttpResponse:
    """A form for a part; posted, the place is asked for its files and bytes."""
    dataset = get_object_or_404(Dataset, slug=slug)
    plan, problem, status = plan_of(dataset.record), "", HTTPStatus.OK
    chosen = {name: request.POST.get(name, "").strip()[:1000] for name in PARTS}
    digits = chosen["subjects"][:MOST_SUBJECTS]
    subjects = int(digits) if digits.isdecimal() and digits.isascii() else 0
    if request.method == "POST":
        try:
            if subjects or chosen["modality"] or chosen["body_part"]:
                plan = narrowed(
                    plan,
                    subjects=subjects or None,
                    modality=chosen["modality"],
                    body_part=chosen["body_part"],
                )
            plan = asked_plan(request, plan, chosen["patterns"].split())
        except SignInError:
            return redirect_to_login(request.path)
        except BuildError as error:
            problem, status = str(error), HTTPStatus.UNPROCESSABLE_ENTITY
    context = {
        "dataset": dataset,
        "plan": timed(plan),
        "location": json.dumps(plan.location),
        "chosen": chosen,
        "is_asked": request.method == "POST" and not problem,
        "problem": problem,
    }
    return render(request, "datasets/files.html", context, status=status)

"""The user's credentials for places, and the terms of datasets that the user accepts."""

from __future__ import annotations

from http import HTTPStatus

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from catalog.models import Dataset
from fusion.acquisition import plan_of
from portal.access import user_of
from workers.credentials import CredentialError, keep, overview, test_access
from workers.models import AcceptedTerms, Credential
from workers.terms import TermsChangedError, accept, accepted


@sensitive_post_parameters("value")
@login_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def index(request: HttpRequest) -> HttpResponse:
    """Each kind of credential with what is known of the user's own, and a form to give one."""
    problem, status = "", HTTPStatus.OK
    if request.method == "POST":
        try:
            keep(user_of(request), request.POST.get("name", ""), request.POST.get("value", ""))
        except CredentialError as error:
            problem, status = str(error), HTTPStatus.UNPROCESSABLE_ENTITY
        else:
            return redirect("credentials")
    context = {
        "rows": overview(user_of(request)),
        "chosen": request.POST.get("name") or request.GET.get("name", ""),
        "problem": problem,
        "terms": AcceptedTerms.objects.filter(owner=user_of(request)),
    }
    return render(request, "account/credentials.html", context, status=status)


@login_required
@require_POST
def test(request: HttpRequest, name: str) -> HttpResponse:
    """Ask the place whose the credential is."""
    test_access(get_object_or_404(Credential, owner=user_of(request), name=name))
    return redirect("credentials")


@login_required
@require_POST
def remove(request: HttpRequest, name: str) -> HttpResponse:
    """Remove a credential of the user's."""
    get_object_or_404(Credential, owner=user_of(request), name=name).delete()
    return redirect("credentials")


@login_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def terms(request: HttpRequest, slug: str) -> HttpResponse:
    """The terms of a dataset, and a form to accept them."""
    dataset = get_object_or_404(Dataset, slug=slug)
    plan, problem, status = plan_of(dataset.record), "", HTTPStatus.OK
    if request.method == "POST":
        try:
            accept(plan, slug, user_of(request), request.POST.get("digest", ""))
        except TermsChangedError as error:
            problem, status = str(error), HTTPStatus.CONFLICT
        else:
            return redirect("dataset-terms", slug=slug)
    context = {
        "dataset": dataset,
        "plan": plan,
        "accepted": accepted(plan, slug, user_of(request)),
        "problem": problem,
    }
    return render(request, "datasets/terms.html", context, status=status)

"""Send a bundle to the Hugging Face Hub, Zenodo or S3: a dry run first, then by a worker."""

from __future__ import annotations

from http import HTTPStatus

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from fusion.deposits import PLACES, refusals
from portal.access import check_may_publish, kept_bundles, user_of
from workers.deposits import DepositError, dry_run, submit_deposit
from workers.models import Deposit


@login_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def index(request: HttpRequest, bundle_id: str) -> HttpResponse:
    """What would be sent to `place` and `target`, a button that sends it, and earlier deposits."""
    bundle = get_object_or_404(kept_bundles(request), pk=bundle_id)
    check_may_publish(request, bundle)
    asked = request.POST if request.method == "POST" else request.GET
    name, target = asked.get("place", ""), asked.get("target", "").strip()
    private = asked.get("public") != "1"
    user, found, problems, status = user_of(request), None, [], HTTPStatus.OK
    try:
        if request.method == "POST":
            submit_deposit(bundle, user, name, target, private=private)
            return redirect("bundle-deposit", bundle_id=bundle_id)
        if name:
            found = dry_run(bundle, user, name, target)
    except DepositError as error:
        problems, status = error.reasons, HTTPStatus.CONFLICT
    context = {
        "bundle": bundle,
        "places": [(key, *row[:2]) for key, row in PLACES.items()],
        "place": name,
        "target": target,
        "private": private,
        "found": found,
        "problems": problems,
        "refusals": refusals(bundle.build, bundle.summary),
        "deposits": Deposit.objects.filter(bundle=bundle, owner=user),
    }
    return render(request, "bundles/deposit.html", context, status=status)

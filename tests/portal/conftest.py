"""A world in which each thing belongs to somebody, and those who ask for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as configured
from django.contrib.auth.models import Group, User
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.test import Client

from catalog.curation import propose
from catalog.models import CatalogRevision, Dataset
from catalog.refresh import begin
from fusion.models import BASELINE_PAGE, COVER, REPORT
from portal.models import CURATORS, ApiToken, Scope
from portal.searches import save
from tests.api.conftest import datasets, own_state
from tests.factories import make_baseline, make_run
from tests.viewed import make_viewed
from workers import uploads
from workers.credentials import keep
from workers.models import RunNotice

REPORT_PAGE = b'<svg viewBox="0 0 1 1" role="img" aria-label="Intensities">-</svg>'
__all__ = ["datasets", "own_state"]
WHO = ("anonymous", "owner", "other", "curator", "staff")


@dataclass(frozen=True)
class World:
    """Users by name, and what the parameters of routes stand for."""

    users: dict[str, User]
    sessions: dict[str, str]
    there: dict[str, Any]
    browser: Client

    def client(self, who: str) -> Client:
        """The browser as it is when `who` sits before it."""
        self.browser.cookies.clear()
        if who != "anonymous":
            self.browser.cookies[configured.SESSION_COOKIE_NAME] = self.sessions[who]
        return self.browser

    def address(self, route: str) -> str:
        route = route.replace("<section>", "datasets")
        for name, value in self.there.items():
            for kind in ("uuid", "slug", "int", "str", "path"):
                route = route.replace(f"<{kind}:{name}>", str(value))
        assert "<" not in route, f"{route}: no value for a parameter"
        return route


def _session(user: User) -> str:
    client = Client()
    client.force_login(user)
    return client.cookies[configured.SESSION_COOKIE_NAME].value


@pytest.fixture
def make_world(datasets, settings, tmp_path: Path):  # noqa: ARG001
    """Called with public=: whether the owner's run and bundle are shown to everybody."""

    def made(*, public: bool = False, **named: Any) -> World:
        users = {name: User.objects.create_user(name, f"{name}@example.org") for name in WHO[1:]}
        users["curator"].groups.add(Group.objects.get_or_create(name=CURATORS)[0])
        users["staff"].is_staff = True
        users["staff"].save()
        owner = users["owner"]
        bundle = make_viewed(tmp_path / "viewed", build="shareable", public=public)
        run = make_run(owner=owner, public=public, bundle=bundle)
        hook = RunNotice.objects.create(
            run=run, owner=owner, kind="hook", target="https://example.org/", page="/"
        )
        upload = uploads.begin(owner, "mine", [{"path": "a.dcm", "bytes": 9}])
        settings.ZENODO_URL = "http://127.0.0.1:9"  # refused without a look
        keep(owner, "ZENODO_TOKEN", "zenodo_of_the_owner")
        evidence = {"url": "https://example.org/", "quote": "2012"}
        dataset = Dataset.objects.get(slug="first-fundus")
        correction, _ = propose(dataset, "year", 2012, proposer=owner, **evidence)
        CatalogRevision.objects.create(number=0, digest="d" * 64, dataset_count=3)
        for path in (REPORT, COVER, BASELINE_PAGE):
            storages["bundles"].save(f"{bundle.pk}/{path}", ContentFile(REPORT_PAGE))
            bundle.files.append({"path": path, "bytes": len(REPORT_PAGE), "sha256": "0" * 64})
        bundle.baseline = make_baseline()
        bundle.save()
        there = {
            "bundle_id": bundle.pk,
            "case_id": "known",
            "correction_id": correction.pk,
            "figure": "access",
            "harvest_id": begin("idc").pk,
            "name": "ZENODO_TOKEN",
            "notice_id": hook.pk,
            "number": 0,  # the first chart, the first file of an upload
            "path": "README.md",
            "run_id": run.pk,
            "search_id": save(owner, "q=lung", "").pk,
            "slug": "first-fundus",
            "token_id": ApiToken.objects.issue(owner, "hers", [Scope.READ])[0].pk,
            "upload_id": upload.pk,
        }
        sessions = {name: _session(user) for name, user in users.items()}
        # Outside of the operator's networks, and what breaks is a status.
        browser = Client(REMOTE_ADDR="192.0.2.1", raise_request_exception=False, **named)
        return World(users, sessions, there, browser)

    return made

"""Who may do what: every route, with each method that it answers, asked by each kind of user."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.db import transaction

from tests.portal.conftest import WHO, World
from tests.portal.routes import METHODS, admin_routes, routes

pytestmark = [pytest.mark.django_db, pytest.mark.slow]
FORM, JSON = "application/x-www-form-urlencoded", "application/json"
PART = "application/offset+octet-stream"
#: Bodies that get past a first look at them; the others are empty.
BODIES: dict[str, Any] = {
    "/api/v1/runs/<uuid:run_id>/priority/": {"priority": "high"},
    "/api/v1/credentials/<str:name>/": {"value": "another"},
    "/api/v1/uploads/<uuid:upload_id>/": {"description": ""},
    "/api/v1/datasets/<slug:slug>/corrections/": {
        "field": "year", "value": 2013, "url": "https://example.org/", "quote": "2013"},
    "/api/v1/runs/": {"example": "brain-tissue"},
    "/api/v1/recipes/validate/": {"example": "brain-tissue"},
    "/api/v1/searches/": {"query": "q=fundus"},
    "/api/v1/searches/<int:search_id>/": {"name": "another"},
    "/api/v1/uploads/": {"name": "more", "files": [{"path": "a.dcm", "bytes": 1}]},
}  # fmt: skip
# The tables: a status for all, or those of WHO (anonymous owner other curator staff). Runs,
# bundles, uploads, notices, tokens and credentials are the owner's. A 400, 409 or 422 is past the
# question who asks.
EVERYBODY = """
GET    200 /
GET    200 /datasets/
GET    200 /datasets/feed/
GET    200 /datasets/<slug:slug>/
GET    200 /datasets/<slug:slug>/files/
POST   422 /datasets/<slug:slug>/files/
GET    200 /datasets/<slug:slug>/correct/
POST   200 /datasets/<slug:slug>/correct/
GET    200 /corrections/
GET    200 /corrections/<uuid:correction_id>/
GET    200 /robots.txt
GET    200 /sitemap.xml
GET    200 /sitemap-<section>.xml
GET    200 /opensearch.xml
GET    200 /dcat/
GET    200 /oai/
POST   200 /oai/
GET    200 /links/
GET    200 /versions/
GET    200 /versions/feed/
GET    200 /versions/<int:number>/
GET    200 /harvests/
GET    200 /waiting/
GET    200 /harvests/waiting/
GET    200 /harvests/<int:harvest_id>/
GET    200 /compare/
GET    200 /blueprint/
POST   200 /blueprint/
POST   422 /blueprint/open/
GET    302 /blueprint/labels/
POST   302 /blueprint/labels/
GET    302 /blueprint/target/
POST   302 /blueprint/target/
GET    302 /blueprint/splits/
POST   302 /blueprint/splits/
GET    302 /blueprint/licences/
POST   302 /blueprint/licences/
GET    302 /blueprint/start/
POST   302 /blueprint/start/
GET    200 /statistics/
GET    200 /rules/
POST   400 /rules/
GET    200 /recipes/
POST   422 /recipes/start/
GET    200 /runs/
GET    200 /bundles/
GET    200 /login/
POST   200 /login/
PUT    200 /login/
POST   302 /logout/
GET    200 /healthz
GET    503 /readyz
GET    200 /api/v1/datasets/
GET    400 /api/v1/datasets/compare/
GET    200 /api/v1/datasets/<slug:slug>/
GET    200 /api/v1/datasets/<slug:slug>/croissant/
GET    200 /api/v1/datasets/<slug:slug>/acquisition/
GET    200 /api/v1/datasets/<slug:slug>/citation/
GET    200 /api/v1/datasets/<slug:slug>/similar/
GET    200 /api/v1/datasets/<slug:slug>/partners/
GET    200 /api/v1/datasets/<slug:slug>/corrections/
POST   201 /api/v1/datasets/<slug:slug>/corrections/
GET    200 /api/v1/datasets/<slug:slug>/record/
GET    200 /api/v1/corrections/
GET    200 /api/v1/corrections/<uuid:correction_id>/
GET    400 /api/v1/blueprint/
POST   400 /api/v1/blueprint/
GET    400 /api/v1/blueprint/goal/
POST   200 /api/v1/blueprint/rules/
GET    200 /api/v1/catalog/concepts/
GET    200 /api/v1/catalog/export/
GET    200 /api/v1/catalog/statistics/
GET    200 /api/v1/catalog/statistics/<str:figure>/
GET    200 /api/v1/catalog/findings/
GET    200 /api/v1/catalog/links/
GET    200 /api/v1/datasets/<slug:slug>/links/
GET    200 /api/v1/catalog/versions/
GET    200 /api/v1/catalog/versions/<int:number>/
GET    200 /api/v1/catalog/harvests/
GET    200 /api/v1/catalog/harvests/<int:harvest_id>/
GET    200 /api/v1/catalog/waiting/
GET    200 /api/v1/catalog/changes/
GET    200 /api/v1/suggest/
GET    200 /api/v1/rules/
POST   200 /api/v1/rules/
GET    200 /api/v1/recipes/
POST   400 /api/v1/recipes/draft/
POST   400 /api/v1/recipes/labels/
POST   200 /api/v1/recipes/validate/
GET    200 /api/v1/runs/
POST   202 /api/v1/runs/
GET    200 /api/v1/bundles/
GET    200 /api/v1/schema/
GET    200 /api/v1/docs/
"""
#                 anonymous owner other curator staff
PRIVATE = """
GET    302 200 200 200 200 /account/searches/
POST   302 302 302 302 302 /account/searches/save/
POST   302 302 404 404 404 /account/searches/<int:search_id>/rename/
POST   302 302 404 404 404 /account/searches/<int:search_id>/delete/
GET    401 200 200 200 200 /api/v1/searches/
POST   401 201 201 201 201 /api/v1/searches/
GET    401 200 404 404 404 /api/v1/searches/<int:search_id>/
PATCH  401 200 404 404 404 /api/v1/searches/<int:search_id>/
DELETE 401 204 404 404 404 /api/v1/searches/<int:search_id>/
POST   302 403 403 302 302 /corrections/<uuid:correction_id>/accept/
POST   302 403 403 422 422 /corrections/<uuid:correction_id>/reject/
POST   302 403 403 302 302 /harvests/decide/
GET    404 200 404 404 200 /runs/<uuid:run_id>/
GET    404 200 404 404 200 /runs/<uuid:run_id>/progress/
POST   404 302 404 404 302 /runs/<uuid:run_id>/pause/
POST   404 409 404 404 409 /runs/<uuid:run_id>/resume/
POST   404 409 404 404 409 /runs/<uuid:run_id>/retry/
POST   404 302 404 404 302 /runs/<uuid:run_id>/cancel/
POST   404 409 404 404 409 /runs/<uuid:run_id>/priority/
POST   404 422 404 404 422 /runs/<uuid:run_id>/notices/
GET    404 200 404 404 200 /bundles/<slug:bundle_id>/
GET    404 200 404 404 200 /bundles/<slug:bundle_id>/report/
GET    404 200 404 404 200 /bundles/<slug:bundle_id>/baseline/
GET    404 200 404 404 200 /bundles/<slug:bundle_id>/charts/<int:number>.svg
GET    404 200 404 404 200 /bundles/<slug:bundle_id>/cases.png
GET    404 200 404 404 200 /bundles/<slug:bundle_id>/cases/
GET    404 200 404 404 200 /bundles/<slug:bundle_id>/cases/<slug:case_id>/
GET    404 200 404 404 200 /bundles/<slug:bundle_id>/cases/<slug:case_id>/slice.png
POST   404 302 404 404 302 /bundles/<slug:bundle_id>/publish/
POST   404 302 404 404 302 /bundles/<slug:bundle_id>/withdraw/
GET    302 200 404 404 200 /bundles/<slug:bundle_id>/remove/
POST   302 302 404 404 409 /bundles/<slug:bundle_id>/remove/
GET    302 200 404 404 200 /bundles/<slug:bundle_id>/deposit/
POST   302 409 404 404 409 /bundles/<slug:bundle_id>/deposit/
GET    302 200 200 200 200 /uploads/
POST   302 422 422 422 422 /uploads/
GET    302 200 404 404 404 /uploads/<uuid:upload_id>/
POST   302 302 404 404 404 /uploads/<uuid:upload_id>/send/
GET    302 200 404 404 404 /uploads/<uuid:upload_id>/description.yaml
POST   302 409 404 404 404 /uploads/<uuid:upload_id>/keep/
POST   302 302 404 404 404 /uploads/<uuid:upload_id>/delete/
POST   302 302 404 404 404 /uploads/<uuid:upload_id>/describe/
GET    302 200 200 200 200 /account/
POST   302 422 422 422 422 /account/
GET    302 200 200 200 200 /account/credentials/
POST   302 422 422 422 422 /account/credentials/
POST   302 302 404 404 404 /account/credentials/<str:name>/test/
POST   302 302 404 404 404 /account/credentials/<str:name>/remove/
GET    302 200 200 200 200 /datasets/<slug:slug>/terms/
POST   302 409 409 409 409 /datasets/<slug:slug>/terms/
POST   302 302 404 404 404 /account/tokens/<int:token_id>/revoke/
GET    403 403 403 403 200 /metrics
GET    403 403 403 403 200 /status/
POST   401 400 400 400 400 /api/v1/datasets/<slug:slug>/terms/
POST   401 403 403 200 200 /api/v1/corrections/<uuid:correction_id>/accept/
POST   401 403 403 422 422 /api/v1/corrections/<uuid:correction_id>/reject/
POST   401 403 403 400 400 /api/v1/catalog/changes/decide/
GET    401 200 200 200 200 /api/v1/credentials/
PUT    401 200 200 200 200 /api/v1/credentials/<str:name>/
DELETE 401 204 404 404 404 /api/v1/credentials/<str:name>/
POST   401 200 404 404 404 /api/v1/credentials/<str:name>/test/
GET    404 200 404 404 200 /api/v1/runs/<uuid:run_id>/
POST   404 202 404 404 202 /api/v1/runs/<uuid:run_id>/pause/
POST   404 409 404 404 409 /api/v1/runs/<uuid:run_id>/resume/
POST   404 409 404 404 409 /api/v1/runs/<uuid:run_id>/retry/
POST   404 202 404 404 202 /api/v1/runs/<uuid:run_id>/cancel/
POST   404 202 404 404 202 /api/v1/runs/<uuid:run_id>/priority/
GET    401 200 200 200 200 /api/v1/uploads/
POST   401 201 201 201 201 /api/v1/uploads/
GET    401 200 404 404 404 /api/v1/uploads/<uuid:upload_id>/
PATCH  401 200 404 404 404 /api/v1/uploads/<uuid:upload_id>/
DELETE 401 204 404 404 404 /api/v1/uploads/<uuid:upload_id>/
POST   401 409 404 404 404 /api/v1/uploads/<uuid:upload_id>/keep/
GET    401 200 404 404 404 /api/v1/uploads/<uuid:upload_id>/files/<int:number>/
PATCH  401 204 404 404 404 /api/v1/uploads/<uuid:upload_id>/files/<int:number>/
GET    404 200 404 404 200 /api/v1/runs/<uuid:run_id>/notices/
POST   404 400 404 404 400 /api/v1/runs/<uuid:run_id>/notices/
DELETE 404 204 404 404 404 /api/v1/runs/<uuid:run_id>/notices/<int:notice_id>/
GET    404 200 404 404 200 /api/v1/bundles/<slug:bundle_id>/
DELETE 404 204 404 404 409 /api/v1/bundles/<slug:bundle_id>/
GET    404 200 404 404 200 /api/v1/bundles/<slug:bundle_id>/baseline/
GET    404 200 404 404 200 /api/v1/bundles/<slug:bundle_id>/cases/
GET    404 200 404 404 200 /api/v1/bundles/<slug:bundle_id>/cases/<slug:case_id>/
GET    404 200 404 404 200 /api/v1/bundles/<slug:bundle_id>/cases/<slug:case_id>/slice.png
GET    404 200 404 404 200 /api/v1/bundles/<slug:bundle_id>/files/
GET    404 200 404 404 200 /api/v1/bundles/<slug:bundle_id>/files/<path:path>
GET    404 200 404 404 200 /api/v1/bundles/<slug:bundle_id>/download/
GET    404 200 404 404 200 /api/v1/bundles/<slug:bundle_id>/deposits/
POST   404 400 404 404 400 /api/v1/bundles/<slug:bundle_id>/deposits/
POST   404 200 404 404 200 /api/v1/bundles/<slug:bundle_id>/publish/
POST   404 200 404 404 200 /api/v1/bundles/<slug:bundle_id>/withdraw/
"""
PUBLISHED = """
GET    200 200 200 200 200 /runs/<uuid:run_id>/
GET    200 200 200 200 200 /runs/<uuid:run_id>/progress/
POST   403 302 403 403 302 /runs/<uuid:run_id>/pause/
POST   403 409 403 403 409 /runs/<uuid:run_id>/resume/
POST   403 409 403 403 409 /runs/<uuid:run_id>/retry/
POST   403 302 403 403 302 /runs/<uuid:run_id>/cancel/
POST   403 409 403 403 409 /runs/<uuid:run_id>/priority/
POST   403 422 422 422 422 /runs/<uuid:run_id>/notices/
GET    200 200 200 200 200 /bundles/<slug:bundle_id>/
GET    200 200 200 200 200 /bundles/<slug:bundle_id>/report/
GET    200 200 200 200 200 /bundles/<slug:bundle_id>/baseline/
GET    200 200 200 200 200 /bundles/<slug:bundle_id>/charts/<int:number>.svg
GET    200 200 200 200 200 /bundles/<slug:bundle_id>/cases.png
GET    200 200 200 200 200 /bundles/<slug:bundle_id>/cases/
GET    200 200 200 200 200 /bundles/<slug:bundle_id>/cases/<slug:case_id>/
GET    200 200 200 200 200 /bundles/<slug:bundle_id>/cases/<slug:case_id>/slice.png
POST   403 302 403 403 302 /bundles/<slug:bundle_id>/publish/
POST   403 302 403 302 302 /bundles/<slug:bundle_id>/withdraw/
GET    302 200 403 403 200 /bundles/<slug:bundle_id>/remove/
POST   302 409 403 403 409 /bundles/<slug:bundle_id>/remove/
GET    302 200 403 403 200 /bundles/<slug:bundle_id>/deposit/
POST   302 409 403 403 409 /bundles/<slug:bundle_id>/deposit/
GET    200 200 200 200 200 /api/v1/runs/<uuid:run_id>/
POST   403 202 403 403 202 /api/v1/runs/<uuid:run_id>/pause/
POST   403 409 403 403 409 /api/v1/runs/<uuid:run_id>/resume/
POST   403 409 403 403 409 /api/v1/runs/<uuid:run_id>/retry/
POST   403 202 403 403 202 /api/v1/runs/<uuid:run_id>/cancel/
POST   403 202 403 403 202 /api/v1/runs/<uuid:run_id>/priority/
GET    401 200 200 200 200 /api/v1/runs/<uuid:run_id>/notices/
POST   401 400 400 400 400 /api/v1/runs/<uuid:run_id>/notices/
DELETE 401 204 404 404 404 /api/v1/runs/<uuid:run_id>/notices/<int:notice_id>/
GET    200 200 200 200 200 /api/v1/bundles/<slug:bundle_id>/
DELETE 401 409 403 403 409 /api/v1/bundles/<slug:bundle_id>/
GET    200 200 200 200 200 /api/v1/bundles/<slug:bundle_id>/baseline/
GET    200 200 200 200 200 /api/v1/bundles/<slug:bundle_id>/cases/
GET    200 200 200 200 200 /api/v1/bundles/<slug:bundle_id>/cases/<slug:case_id>/
GET    200 200 200 200 200 /api/v1/bundles/<slug:bundle_id>/cases/<slug:case_id>/slice.png
GET    200 200 200 200 200 /api/v1/bundles/<slug:bundle_id>/files/
GET    200 200 200 200 200 /api/v1/bundles/<slug:bundle_id>/files/<path:path>
GET    200 200 200 200 200 /api/v1/bundles/<slug:bundle_id>/download/
GET    401 200 403 403 200 /api/v1/bundles/<slug:bundle_id>/deposits/
POST   401 400 403 403 400 /api/v1/bundles/<slug:bundle_id>/deposits/
POST   401 200 403 403 200 /api/v1/bundles/<slug:bundle_id>/publish/
POST   401 200 403 200 200 /api/v1/bundles/<slug:bundle_id>/withdraw/
"""


def _read(text: str) -> dict[tuple[str, str], tuple[int, ...]]:
    """Method and route -> the status of each of WHO."""
    found = {}
    for method, *statuses, route in map(str.split, text.strip().splitlines()):
        each = statuses if len(statuses) > 1 else statuses * len(WHO)
        found[method, route] = tuple(map(int, each))
        assert len(each) == len(WHO), route
    return found


ROWS = _read(EVERYBODY) | _read(PRIVATE)


def ask(world: World, who: str, method: str, route: str) -> int:
    """The status of one request; what it changed is undone."""
    kind = JSON if route.startswith("/api/") else FORM
    body = json.dumps(BODIES.get(route, {})) if kind == JSON else ""
    headers = {}
    if route.endswith("/files/<int:number>/"):
        kind, body, headers = PART, "x", {"Upload-Offset": "0"}
    with transaction.atomic():
        client = world.client(who)
        answer = client.generic(method, world.address(route), body, kind, headers=headers)
        transaction.set_rollback(True)
    return answer.status_code


def _answers(world: World, place: int, rows: dict[tuple[str, str], tuple[int, ...]]) -> None:
    # What removes files comes last: files are not brought back.
    last = ("/delete/", "/bundles/<slug:bundle_id>/remove/")
    asked = sorted(rows, key=lambda row: row[0] == "DELETE" or row[1].endswith(last))
    found = {row: ask(world, WHO[place], *row) for row in asked}

    assert found == {row: statuses[place] for row, statuses in rows.items()}


@pytest.mark.parametrize("place", range(len(WHO)), ids=WHO)
def test_each_user_gets_from_each_route_what_the_table_says(make_world, place):
    _answers(make_world(public=False), place, ROWS)


@pytest.mark.parametrize("place", range(len(WHO)), ids=WHO)
def test_what_is_published_is_seen_by_all_and_steered_by_few(make_world, place):
    _answers(make_world(public=True), place, _read(PUBLISHED))


def test_no_route_and_no_method_is_missing_from_the_table(make_world):
    world = make_world(public=False)
    missing = [
        (method, route)
        for route in routes()
        for method in METHODS
        if (method, route) not in ROWS and ask(world, "staff", method, route) != 405
    ]

    assert missing == [], "say who may ask for these"
    assert {route for _, route in ROWS} <= set(routes())


def test_the_admin_is_for_staff_alone(make_world):
    world = make_world(public=False)
    there = {"<path:object_id>": "1", "<path:content_type_id>": "1", "<id>": "1"}
    addresses = []
    for route in admin_routes():
        for name, value in there.items():
            route = route.replace(name, value)  # noqa: PLW2901
        if "(?P" not in route and route not in {"/admin/login/", "/admin/logout/"}:
            addresses.append(route)

    assert len(addresses) > 10
    for who in WHO[:-1]:
        for address in addresses:
            answer = world.client(who).get(address)
            told = (answer.status_code, answer.headers.get("Location", "").partition("?")[0])
            assert told == (302, "/admin/login/"), (who, address)

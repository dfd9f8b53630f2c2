"""Who may do what: a table of users and endpoints, tokens, and the pages of an account."""

from __future__ import annotations

import io
import json

import pytest
from django.contrib.auth.models import Group, User
from django.core.management import call_command
from django.test import Client

from fusion.models import Bundle
from portal.models import CURATORS, ApiToken, SavedSearch, Scope
from tests.factories import make_bundle, make_run
from tests.workers.conftest import demo_recipe
from workers.models import Run
from workers.submit import submit_run

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("datasets")]
WHO = ("anonymous", "owner", "other", "curator", "staff")
PRIVATE = {
    "GET /api/v1/runs/{run}/": (404, 200, 404, 404, 200),
    "POST /api/v1/runs/{run}/pause/": (404, 202, 404, 404, 202),
    "POST /api/v1/runs/{run}/resume/": (404, 409, 404, 404, 409),
    "POST /api/v1/runs/{run}/retry/": (404, 409, 404, 404, 409),
    "POST /api/v1/runs/{run}/cancel/": (404, 202, 404, 404, 202),
    "GET /api/v1/bundles/{bundle}/": (404, 200, 404, 404, 200),
    "GET /api/v1/bundles/{bundle}/baseline/": (404, 404, 404, 404, 404),
    "GET /api/v1/bundles/{bundle}/files/": (404, 200, 404, 404, 200),
    "GET /api/v1/bundles/{bundle}/files/README.md": (404, 200, 404, 404, 200),
    "GET /api/v1/bundles/{bundle}/download/": (404, 200, 404, 404, 200),
    "POST /api/v1/bundles/{bundle}/publish/": (404, 200, 404, 404, 200),
    "POST /api/v1/bundles/{bundle}/withdraw/": (404, 200, 404, 404, 200),
    "DELETE /api/v1/bundles/{bundle}/": (404, 204, 404, 404, 409),
    "DELETE /api/v1/bundles/{bundle}/?why=old": (404, 204, 404, 404, 204),
    "GET /bundles/{bundle}/remove/": (302, 200, 404, 404, 200),
    "POST /bundles/{bundle}/remove/": (302, 302, 404, 404, 409),
    "GET /runs/{run}/": (404, 200, 404, 404, 200),
    "GET /runs/{run}/progress/": (404, 200, 404, 404, 200),
    "POST /runs/{run}/cancel/": (404, 302, 404, 404, 302),
    "GET /bundles/{bundle}/": (404, 200, 404, 404, 200),
    "POST /bundles/{bundle}/publish/": (404, 302, 404, 404, 302),
    "GET /account/": (302, 200, 200, 200, 200),
    "GET /account/searches/": (302, 200, 200, 200, 200),
    "POST /account/searches/{search}/rename/": (302, 302, 404, 404, 404),
    "POST /account/searches/{search}/delete/": (302, 302, 404, 404, 404),
    "GET /api/v1/searches/": (401, 200, 200, 200, 200),
    "GET /api/v1/searches/{search}/": (401, 200, 404, 404, 404),
    "PATCH /api/v1/searches/{search}/": (401, 400, 404, 404, 404),
    "DELETE /api/v1/searches/{search}/": (401, 204, 404, 404, 404),
    "GET /status/": (403, 403, 403, 403, 200),
    "GET /admin/": (302, 302, 302, 302, 200),
}
PUBLISHED = {
    "GET /api/v1/runs/{run}/": (200, 200, 200, 200, 200),
    "POST /api/v1/runs/{run}/cancel/": (403, 202, 403, 403, 202),
    "POST /runs/{run}/cancel/": (403, 302, 403, 403, 302),
    "GET /api/v1/bundles/{bundle}/download/": (200, 200, 200, 200, 200),
    "POST /api/v1/bundles/{bundle}/publish/": (401, 200, 403, 403, 200),
    "POST /api/v1/bundles/{bundle}/withdraw/": (401, 200, 403, 200, 200),
    "POST /bundles/{bundle}/withdraw/": (403, 302, 403, 302, 302),
    "DELETE /api/v1/bundles/{bundle}/": (401, 409, 403, 403, 409),
    "DELETE /api/v1/bundles/{bundle}/?why=old": (401, 204, 403, 403, 204),
    "GET /bundles/{bundle}/remove/": (302, 200, 403, 403, 200),
    "POST /bundles/{bundle}/remove/": (302, 409, 403, 403, 409),
}


@pytest.fixture
def users() -> dict[str, User | None]:
    found = {name: User.objects.create(username=name) for name in WHO[1:]}
    found["curator"].groups.add(Group.objects.get_or_create(name=CURATORS)[0])
    found["staff"].is_staff = True
    found["staff"].save()
    return {"anonymous": None, **found}


def _answers(users, run: Run, bundle: Bundle, row: str) -> tuple[int, ...]:
    found = []
    for name in WHO:
        SavedSearch.objects.all().delete()
        search = SavedSearch.objects.create(owner=users["owner"], name="hers", query="q=hers").pk
        method, address = row.format(run=run.pk, bundle=bundle.pk, search=search).split()
        client = Client(REMOTE_ADDR="192.0.2.1")
        if users[name]:
            client.force_login(users[name])
        before = (Run.objects.filter(pk=run.pk).values()[0], Bundle.objects.values()[0])
        found.append(client.generic(method, address).status_code)
        Run.objects.filter(pk=run.pk).update(**before[0])
        Bundle.objects.update(**before[1])
    return tuple(found)


@pytest.mark.parametrize("row", PRIVATE)
def test_what_a_user_started_is_seen_and_steered_by_owner_and_staff_alone(users, row):
    bundle = make_bundle(build="shareable", public=False)
    run = make_run(owner=users["owner"], public=False, bundle=bundle)

    assert _answers(users, run, bundle, row) == PRIVATE[row]


@pytest.mark.parametrize("row", PUBLISHED)
def test_what_is_published_is_seen_by_all_and_steered_by_its_owner(users, row):
    bundle = make_bundle(build="shareable")
    run = make_run(owner=users["owner"], bundle=bundle)

    assert _answers(users, run, bundle, row) == PUBLISHED[row]


def test_what_a_visitor_started_is_everybodys(client):
    bundle = make_bundle()
    run = make_run(bundle=bundle)

    assert client.get(f"/api/v1/bundles/{bundle.pk}/download/").status_code == 200
    assert client.post(f"/api/v1/runs/{run.pk}/pause/").status_code == 202


def test_lists_show_what_one_may_see(client, users):
    make_run(title="ours")
    make_run(title="hers", owner=users["owner"], public=False)

    def titles() -> set[str]:
        return {row["title"] for row in client.get("/api/v1/runs/").json()["results"]}

    assert titles() == {"ours"}
    assert b"hers" not in client.get("/runs/").content
    client.force_login(users["owner"])
    assert titles() == {"ours", "hers"}


def test_two_users_do_not_get_each_others_run_of_one_recipe(users):
    first = submit_run(demo_recipe(), owner=users["owner"])
    second = submit_run(demo_recipe(), owner=users["other"])

    assert first.pk != second.pk
    assert submit_run(demo_recipe(), owner=users["owner"]).pk == first.pk
    assert not first.public
    third = submit_run(demo_recipe())
    assert third.public
    assert third.pk not in {first.pk, second.pk}


def test_a_private_build_is_not_published(client, users):
    bundle = make_bundle(build="private", public=False)
    make_run(owner=users["owner"], public=False, bundle=bundle)
    client.force_login(users["owner"])

    answer = client.post(f"/api/v1/bundles/{bundle.pk}/publish/")

    assert answer.status_code == 409
    assert "expected a shareable one" in answer.json()["detail"]
    assert not Bundle.objects.get().public


def _token(user: User, *scopes: Scope) -> dict[str, str]:
    return {"Authorization": f"Bearer {ApiToken.objects.issue(user, 'a test', list(scopes))[1]}"}


def test_a_token_may_do_what_its_scopes_say(client, users):
    run = make_run(owner=users["owner"], public=False)
    read, run_only = _token(users["owner"], Scope.READ), _token(users["owner"], Scope.RUN)
    address = f"/api/v1/runs/{run.pk}/"

    assert client.get(address, headers=read).status_code == 200
    refused = client.post(f"{address}pause/", headers=read)
    assert refused.status_code == 403
    assert "this needs run" in refused.json()["detail"]
    assert client.get(address, headers=run_only).status_code == 403
    assert client.post(f"{address}pause/", headers=run_only).status_code == 202
    # a pure question by POST needs no more than reading
    body = json.dumps({"example": "brain-tissue"})
    asked = client.post("/api/v1/recipes/validate/", body, "application/json", headers=read)
    assert asked.status_code == 200


def test_a_curators_token_withdraws_only_with_the_scope(client, users):
    bundle = make_bundle(build="shareable")
    address = f"/api/v1/bundles/{bundle.pk}/withdraw/"

    assert client.post(address, headers=_token(users["curator"], Scope.RUN)).status_code == 403
    both = _token(users["curator"], Scope.RUN, Scope.CURATE)
    assert client.post(address, headers=both).status_code == 200
    assert client.get(f"/api/v1/bundles/{bundle.pk}/").status_code == 404


def test_a_run_started_with_a_token_belongs_to_its_owner(client, users):
    body = json.dumps({"example": "brain-tissue"})
    headers = _token(users["owner"], Scope.RUN)

    answer = client.post("/api/v1/runs/", body, "application/json", headers=headers)

    assert (answer.status_code, answer.json()["owner"]) == (202, "owner")
    assert client.get(answer["Location"]).status_code == 404


def test_a_revoked_mistyped_or_locked_out_token_is_a_401(client, users):
    headers = _token(users["owner"], Scope.READ)
    assert client.get("/api/v1/runs/", headers=headers).status_code == 200
    User.objects.filter(username="owner").update(is_active=False)
    assert client.get("/api/v1/runs/", headers=headers).status_code == 401
    User.objects.filter(username="owner").update(is_active=True)
    ApiToken.objects.all().delete()

    answer = client.get("/api/v1/runs/", headers=headers)

    assert answer.status_code == 401
    assert answer["WWW-Authenticate"].startswith("Bearer")
    assert answer["Content-Type"] == "application/problem+json"


def test_where_sign_in_is_required_visitors_search_and_download_but_start_nothing(
    client, users, settings
):
    settings.REQUIRE_SIGN_IN = True
    run, body = make_run(), json.dumps({"example": "brain-tissue"})

    assert client.get("/api/v1/datasets/").status_code == 200
    started = client.post("/api/v1/runs/", body, content_type="application/json")
    assert (started.status_code, started["WWW-Authenticate"][:6]) == (401, "Bearer")
    assert client.post(f"/api/v1/runs/{run.pk}/cancel/").status_code == 401
    page = client.post("/recipes/start/", {"example": "brain-tissue"})
    assert page["Location"] == "/login/?next=/recipes/"
    client.force_login(users["other"])
    assert client.post("/recipes/start/", {"example": "brain-tissue"}).status_code == 302
    assert Run.objects.filter(owner=users["other"]).count() == 1


def test_sign_in_make_a_token_once_shown_revoke_it_sign_out(client):
    User.objects.create_user("ada", password="a long enough one")
    wrong = client.post("/login/", {"username": "ada", "password": "no"})
    assert b'role="alert"' in wrong.content
    credentials = {"username": "ada", "password": "a long enough one"}
    there = client.post("/login/?next=https://example.org/", credentials)
    assert there["Location"] == "/runs/"  # no open redirect

    made = client.post("/account/", {"name": "my script", "scopes": ["read", "run"]})

    assert made.status_code == 201
    text = made.content.decode().split('id="new-token">')[1].split("<")[0]
    token = ApiToken.objects.of(text)
    assert token.scopes == ["read", "run"]
    assert text not in client.get("/account/").content.decode()
    assert text not in str(ApiToken.objects.values())
    assert client.post("/account/", {"name": "", "scopes": ["all"]}).status_code == 422
    client.post(f"/account/tokens/{token.pk}/revoke/")
    assert not ApiToken.objects.exists()
    client.post("/logout/")
    assert client.get("/account/")["Location"].startswith("/login/")


def test_nobody_revokes_anothers_token(client, users):
    token, _ = ApiToken.objects.issue(users["owner"], "hers", [Scope.READ])
    client.force_login(users["other"])

    assert client.post(f"/account/tokens/{token.pk}/revoke/").status_code == 404


def test_accounts_are_added_by_command_with_a_checked_password(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("a long enough one\n"))
    call_command("add_user", "grace", "--curator", "--token")

    token = ApiToken.objects.of(capsys.readouterr().out.split()[-1])
    assert token.owner.check_password("a long enough one")
    assert token.scopes == ["read", "run", "curate"]
    monkeypatch.setattr("sys.stdin", io.StringIO("12345\n"))
    with pytest.raises(Exception, match="password"):
        call_command("add_user", "bob")

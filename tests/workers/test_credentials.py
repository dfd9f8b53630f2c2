"""Credentials of users: sealed, used by their own runs alone, shown nowhere; terms on record."""

from __future__ import annotations

import base64
import json
import logging
import sqlite3
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from django.contrib.auth.models import User
from django.core.management import call_command

from fusion.acquisition import plan_of
from fusion.errors import BuildError
from fusion.sources import connector
from fusion.sources.credentials import KINDS
from tests.factories import make_dataset
from tests.fusion.made import brain, member, recipe, write_source
from tests.fusion.servers import COMMIT, HubHandler, hub, serving
from tests.fusion.servers import Site as Server
from tests.workers.conftest import demo_recipe
from tests.workers.test_connectors import files_below
from workers.credentials import CredentialError, keep, rules_for, rules_of_run
from workers.credentials import test_access as ask_place
from workers.logs import without_secrets
from workers.models import AcceptedTerms, Credential, Run
from workers.submit import submit_run
from workers.terms import TermsChangedError, TermsError, accept

pytestmark = pytest.mark.django_db
CANARY = "hf_canary7b1d4c9e0f2a5836"


@pytest.fixture
def ann() -> User:
    return User.objects.create(username="ann")


@pytest.fixture
def ben() -> User:
    return User.objects.create(username="ben")


def test_a_credential_is_opened_for_its_owner_and_what_it_is_for(ann, ben):
    keep(ann, "HF_TOKEN", f" {CANARY}\n")
    keep(ann, "ZENODO_TOKEN", "another-one")

    row = Credential.objects.get(owner=ann, name="HF_TOKEN")
    run = Run(owner=ann, recipe={"sources": [{"location": {"kind": "huggingface"}}]})

    assert CANARY not in row.sealed
    assert rules_for(ann).secret("HF_TOKEN") == CANARY
    assert dict(rules_of_run(run).credentials) == {"HF_TOKEN": CANARY}
    assert not rules_for(ben).credentials
    assert not rules_for(None).credentials
    assert CANARY not in repr(rules_for(ann))
    assert without_secrets(f"sent {CANARY}") == "sent ***"


@pytest.mark.parametrize(
    ("name", "value"),
    [("HF_TOKEN", ""), ("HF_TOKEN", "a\nb"), ("PHYSIONET_LOGIN", "c4n4ry"), ("NO_SUCH", "c4n4ry")],
)
def test_what_no_header_may_hold_is_refused_without_repeating_it(ann, name, value):
    with pytest.raises(CredentialError) as caught:
        keep(ann, name, value)

    assert "c4n4ry" not in str(caught.value)
    assert not Credential.objects.exists()


def test_a_sealed_value_put_into_another_row_opens_nothing(ann, ben):
    mine = keep(ann, "HF_TOKEN", CANARY)
    Credential.objects.create(owner=ben, name="HF_TOKEN", sealed=mine.sealed)
    Credential.objects.create(owner=ann, name="ZENODO_TOKEN", sealed=mine.sealed)

    for owner, name in ((ben, "HF_TOKEN"), (ann, "ZENODO_TOKEN")):
        with pytest.raises(BuildError, match="for another account"):
            rules_for(owner, [name])


def test_keys_are_changed_without_a_gap(ann, settings):
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    settings.CREDENTIAL_KEYS = [old]
    keep(ann, "HF_TOKEN", CANARY)

    settings.CREDENTIAL_KEYS = [new, old]
    assert rules_for(ann).secret("HF_TOKEN") == CANARY
    call_command("reseal_credentials")
    settings.CREDENTIAL_KEYS = [new]
    assert rules_for(ann).secret("HF_TOKEN") == CANARY
    settings.CREDENTIAL_KEYS = [old]
    with pytest.raises(BuildError, match="give it again") as caught:
        rules_for(ann)

    assert caught.value.code == "access_denied"


def test_a_test_says_whose_it_is_or_that_it_is_refused(ann, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    server = Server(answers={"/api/whoami-v2": {"name": "ann-on-the-hub"}})
    row = keep(ann, "HF_TOKEN", CANARY)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with serving(server, HubHandler) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        good = ask_place(row)
        assert (good.accepted, good.said) == (True, "ann-on-the-hub")
        server.needs["/api/"] = "another token"
        bad = ask_place(row)

    assert bad.accepted is False
    assert "refused" in bad.said
    assert bad.tested_at
    assert CANARY not in bad.said + caplog.text
    sent = [headers.get("authorization") for _, _, headers in server.asked]
    assert sent == [f"Bearer {CANARY}"] * 2


#: Kind -> its setting, where the place tells whose it is, what it answers, and what is then said.
PLACES = {
    "ZENODO_TOKEN": ("ZENODO_URL", "/api/deposit/depositions", [], "accepted"),
    "FIGSHARE_TOKEN": ("FIGSHARE_URL", "/v2/account", {"email": "ann@x.org"}, "ann@x.org"),
    "KAGGLE_API_TOKEN": ("KAGGLE_URL", "/api/v1/hello", {"userName": "ann"}, "ann"),
    "SYNAPSE_AUTH_TOKEN": ("SYNAPSE_URL", "/repo/v1/userProfile", {"userName": "ann"}, "ann"),
}


@pytest.mark.parametrize("name", PLACES)
def test_each_place_that_tells_is_asked_whose_a_credential_is(ann, settings, caplog, name):
    caplog.set_level(logging.DEBUG)
    setting, path, answer, said = PLACES[name]
    word = "token" if name == "FIGSHARE_TOKEN" else "Bearer"
    server = Server(answers={path: answer}, needs={"/": f"{word} {CANARY}"})
    settings.FETCH_NETWORKS = ["127.0.0.0/8"]
    row = keep(ann, name, CANARY)
    with serving(server) as url:
        setattr(settings, setting, url)
        good = ask_place(row)
        assert (good.accepted, good.said) == (True, said)
        server.needs["/"] = "another token"
        bad = ask_place(row)

    assert (bad.accepted, f"{name} is refused" in bad.said) == (False, True)
    assert CANARY not in bad.said + caplog.text


def test_every_kind_of_credential_can_be_tested():
    assert all(callable(connector(kind.connector).whoami) for kind in KINDS.values())


def elsewhere(slug: str, url: str = "https://example.org") -> dict:
    source = member("a")
    place = {"kind": "http", "files": [{"url": f"{url}/a.zip"}]}
    return recipe({**source, "dataset": slug, "location": place})


@pytest.fixture
def signed():
    link = {"url": "https://zenodo.org/records/7", "kind": "official", "source": "curation"}
    link["issue"] = None
    return make_dataset("signed", links=[link], licence="CC-BY-4.0", access="registration")


def test_terms_are_accepted_on_record_before_a_run_fetches_under_them(ann, signed, settings):
    settings.BUNDLE_BYTES = 0
    plan = plan_of(signed.record)

    for owner, says in ((None, "sign in"), (ann, "accept them")):
        with pytest.raises(TermsError, match=says) as caught:
            submit_run(elsewhere("signed"), owner=owner)
        assert caught.value.datasets == ("signed",)
        assert "https://zenodo.org/records/7" in str(caught.value)
    with pytest.raises(TermsChangedError):
        accept(plan, "signed", ann, "0" * 64)
    accept(plan, "signed", ann, plan.accept_digest)
    accept(plan, "signed", ann, plan.accept_digest)
    run = submit_run(elsewhere("signed"), owner=ann)

    assert run.state == Run.State.QUEUED
    row = AcceptedTerms.objects.get()
    assert (row.terms, row.dataset) == (list(plan.accept), "signed")


@pytest.mark.usefixtures("datasets")
def test_files_that_are_here_ask_for_no_acceptance():
    assert submit_run(demo_recipe()).state == Run.State.QUEUED


SUBMIT = """
import json; from django.contrib.auth.models import User
from workers.credentials import keep; from workers.submit import submit_run
import workers.terms, fusion.acquisition, catalog.services
owner, _ = User.objects.get_or_create(username={user!r})
if {value!r}: keep(owner, "HF_TOKEN", {value!r})
recipe = json.load(open({file!r}))
slugs = {{one["dataset"] for one in recipe["sources"]}}
for slug, facts in catalog.services.facts_of(slugs).items():
    plan = fusion.acquisition.plan_of(facts)
    if plan.accept: workers.terms.accept(plan, slug, owner, plan.accept_digest)
print("run", submit_run(recipe, owner=owner).pk.hex)
"""


@pytest.mark.slow
def test_a_gated_source_is_fetched_with_the_owners_credential_which_is_found_nowhere(
    make_site, tmp_path: Path
):
    write_source(tmp_path / "made", {f"a{i}": brain(i) for i in range(6)})
    server = Server()
    hub(server, files_below(tmp_path / "made"))
    server.needs["/"] = CANARY
    place = {"kind": "huggingface", "repo_id": "some/set", "revision": COMMIT}
    asked = recipe({**member("a"), "dataset": "stare", "location": place})
    site = make_site("site")

    def submit(user: str, value: str = "") -> str:
        file = tmp_path / "recipe.json"
        file.write_text(json.dumps(asked))
        code = SUBMIT.format(user=user, value=value, file=str(file))
        return site.manage("shell", "-v0", "-c", code).split("run ")[1].strip()

    with serving(server, HubHandler) as url:
        site.extra = {
            "HF_ENDPOINT": url, "HF_HUB_OFFLINE": "0", "HF_TOKEN": "",
            "IMAGINGX_FETCH_NETWORKS": "127.0.0.0/8",
            "IMAGINGX_LOG_LEVEL": "DEBUG",
        }  # fmt: skip
        site.start_worker()
        mine = submit("ann", CANARY)
        assert site.wait_for_end(mine, 400) == "succeeded", site.logs()
        other = submit("ben")
        assert site.wait_for_end(other, 200) == "failed", site.logs()
        code, error = site.one("SELECT error_code, error FROM workers_run WHERE id = ?", other)

    assert code in {"source_failed", "access_denied"}
    assert "HF_TOKEN" in error
    assert any(one.get("authorization") == f"Bearer {CANARY}" for _, _, one in server.asked)
    with sqlite3.connect(site.state / "db.sqlite3") as database:
        dump = "\n".join(database.iterdump())
    assert "workers_credential" in dump
    seen = {"dump of the database": dump.encode()} | {
        str(path.relative_to(site.state)): path.read_bytes()
        for path in site.state.rglob("*")
        if path.is_file()
    }
    assert any(name.startswith("bundles/") for name in seen)
    assert any(name.endswith(".log") for name in seen)
    forms = (
        CANARY.encode(),
        base64.b64encode(CANARY.encode()),
        base64.b64encode(CANARY.encode()[1:]),
    )
    found = [
        name for name, data in seen.items() if any(form.rstrip(b"=") in data for form in forms)
    ]
    assert found == []

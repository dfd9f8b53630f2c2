"""What the client does for an account: saved searches, drafts, notices, corrections."""

from __future__ import annotations

import json

import pytest
from django.contrib.auth.models import User

from imagingx import Client, ProblemError
from imagingx.cli import main
from portal.models import ApiToken, SavedSearch, Scope
from tests.factories import make_bundle, make_run
from workers.models import RunNotice

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("datasets")]


@pytest.fixture
def ada(live_server, monkeypatch):
    owner = User.objects.create(username="ada", email="ada@example.org")
    token = ApiToken.objects.issue(owner, "a test", [Scope.READ, Scope.RUN])[1]
    monkeypatch.setenv("IMAGINGX_URL", live_server.url)
    monkeypatch.setenv("IMAGINGX_TOKEN", token)
    with Client() as client:
        yield client


def test_searches_are_saved_renamed_and_forgotten(ada):
    kept = ada.save_search("Eyes", q="fundus", licence=["CC-BY-4.0", "CC0-1.0"])
    ada.rename_search(kept["id"], "Retinas")

    (found,) = ada.saved_searches()
    assert found["name"] == "Retinas"
    assert found["query"] == "q=fundus&licence=CC-BY-4.0&licence=CC0-1.0"
    ada.delete_search(found["id"])
    assert list(ada.saved_searches()) == []
    with pytest.raises(ProblemError, match="Fundus photography"):
        ada.save_search(modality="Fundos")


def test_the_command_keeps_searches(ada, capsys):  # noqa: ARG001 - its token is used
    assert main(["searches", "--save", "q=fundus", "modality=OCT", "--name", "Eyes"]) == 0
    capsys.readouterr()
    assert main(["--json", "searches"]) == 0
    (one,) = json.loads(capsys.readouterr().out)
    assert (one["name"], one["query"]) == ("Eyes", "q=fundus&modality=OCT")
    assert main(["searches", "--delete", str(one["id"])]) == 0
    assert not SavedSearch.objects.exists()
    assert main(["searches", "--save", "fundus"]) == 1


def test_a_draft_is_made_its_labels_changed_and_checked(ada, capsys):
    slugs = ("icbm152-2009a", "mni152-neuromorphometrics")
    drafted = ada.draft(*slugs)
    place = "layers.0.values.35,40,41,44,45,61,62"

    changed = ada.labels(drafted["recipe"], {slugs[1]: {place: "Hippocampus"}})

    assert [one["id"] for one in drafted["sources"]] == list(slugs)
    outcome = changed["labels"]["outcomes"]["intersection"]["concepts"]
    assert outcome == ["grey_matter"]
    assert changed["recipe"]["sources"][1]["description"]["layers"][0]["values"][
        place.rpartition(".")[2]
    ] == "hippocampus"  # fmt: skip
    assert main(["draft", *slugs]) == 0
    assert json.loads(capsys.readouterr().out)["sources"] == drafted["recipe"]["sources"]
    with pytest.raises(ProblemError, match="data that you keep here"):
        ada.draft(*slugs, own=["nothing"])


def test_one_is_told_when_a_run_ends_and_no_longer(ada, settings):
    settings.EMAIL_HOST = "localhost"
    run = str(make_run(owner=User.objects.get(), public=False).pk)
    notice = ada.notify(run)

    assert [one["id"] for one in ada.notices(run)] == [notice["id"]]
    assert notice["kind"] == "mail"
    ada.forget_notice(run, notice["id"])
    assert not RunNotice.objects.exists()
    assert ada.set_priority(run, "high")["priority"] == "high"


def test_a_correction_is_suggested_and_read_again(ada):
    given = ("year", 2012, "https://example.org/", "released in 2012")
    sent = ada.correct("second-fundus", *given)

    assert ada.correction(sent["id"])["value"] == 2012
    assert [one["id"] for one in ada.corrections("second-fundus")] == [sent["id"]]
    assert list(ada.corrections("first-fundus")) == []


def test_figures_files_and_rules(ada):
    assert ada.figure("modality").startswith("modality,datasets,search\n")
    assert ada.figure("modality", "svg").startswith("<svg ")
    assert b"first-fundus" in ada.export("csv", q="fundus")
    assert ada.concepts("retinal vessel")[0]["id"] == "retinal_vessel"
    assert ada.rules()
    assert ada.apply_rules({"modalities": ["CT"]})
    assert list(ada.versions()) == []
    assert ada.suggest("fund")
    found = ada.goal("Fundus photography", "Eye", "Segmentation")
    assert sorted(found["pool"]) == ["first-fundus", "second-fundus"]
    assert ada.best_of_rules({"modalities": ["CT"]})["slugs"] == []


def test_a_bundle_is_removed_by_call_and_by_command(ada, capsys):
    first = make_bundle(public=False)
    second = make_bundle({"other.md": b"x"}, public=True)
    for bundle in (first, second):
        make_run(owner=User.objects.get(), bundle=bundle, state="succeeded")

    ada.remove_bundle(first.pk)

    with pytest.raises(ProblemError, match="removed by its owner"):
        ada.bundle(first.pk)
    assert main(["remove", second.pk]) == 1
    assert "removal_refused" in capsys.readouterr().err
    assert main(["remove", second.pk, "--why", "made anew"]) == 0
    assert f"bundle {second.pk[:12]} removed" in capsys.readouterr().out

"""What a user removes is gone for that user, and its files go when nobody else holds them."""

from __future__ import annotations

import logging
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.files.storage import storages
from django.test import Client
from django.utils.timezone import now

from fusion.models import Bundle
from portal.publishing import discard_bundle
from tests.factories import make_bundle, make_run
from tests.workers.conftest import demo_recipe
from workers.models import Deposit, Run
from workers.publish import is_published
from workers.room import taken_by
from workers.submit import submit_run
from workers.tidy import tidy

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("datasets")]


def user(name: str) -> User:
    return User.objects.create(username=name)


def of(owner: User) -> Client:
    browser = Client(REMOTE_ADDR="192.0.2.1")
    browser.force_login(owner)
    return browser


@pytest.fixture
def ada() -> User:
    return user("ada")


def made_by(*owners: User | None, **fields) -> Bundle:
    """A private bundle that a finished run of each of them made."""
    bundle = make_bundle(**{"build": "shareable", "public": False, **fields})
    for owner in owners:
        public = owner is None
        make_run(owner=owner, public=public, bundle=bundle, state="succeeded")
    return bundle


def remove(owner: User, bundle: Bundle, why: str = ""):
    address = f"/api/v1/bundles/{bundle.pk}/"
    return of(owner).delete(f"{address}?why={why}" if why else address)


def test_the_last_holder_removes_the_files_and_keeps_page_recipe_and_room(ada, caplog):
    bundle = made_by(ada, recipe={"title": "Vessels"}, size_bytes=30)
    assert taken_by(ada) == (30, 0)

    with caplog.at_level(logging.INFO, "portal.publishing"):
        assert remove(ada, bundle).status_code == 204

    assert not Path(storages["bundles"].path(bundle.pk)).exists()
    assert taken_by(ada) == (0, 0)
    gone = of(ada).get(f"/api/v1/bundles/{bundle.pk}/")
    assert (gone.status_code, gone.json()["recipe"]) == (410, {"title": "Vessels"})
    assert "removed by its owner" in gone.json()["detail"]
    assert remove(ada, bundle).status_code == 410
    assert f"bundle {bundle.pk}: given up by user {ada.pk}: 30 bytes removed" in caplog.text


def test_a_claim_is_given_up_and_the_bundle_stays_for_the_others(ada):
    bob = user("bob")
    bundle = made_by(ada, bob, recipe={"title": "Vessels"})

    assert remove(ada, bundle).status_code == 204

    assert is_published(bundle.pk)
    assert taken_by(ada) == (0, 0)
    gone = of(ada).get(f"/api/v1/bundles/{bundle.pk}/files/README.md")
    assert (gone.status_code, gone.json()["recipe"]) == (410, {"title": "Vessels"})
    assert "bob" not in gone.content.decode()
    assert of(ada).get(f"/bundles/{bundle.pk}/").status_code == 410
    assert of(ada).get("/api/v1/bundles/").json()["total"] == 0
    assert of(ada).post(f"/bundles/{bundle.pk}/publish/").status_code == 410
    assert of(bob).get(f"/api/v1/bundles/{bundle.pk}/download/").status_code == 200
    assert remove(bob, bundle).status_code == 204
    assert not is_published(bundle.pk)


@pytest.mark.parametrize("holder", ["visitor", "pin", "run under way"])
def test_other_claims_keep_the_files(ada, holder):
    bundle = made_by(ada, *([None] if holder == "visitor" else []), pinned=holder == "pin")
    if holder == "run under way":
        run = submit_run(demo_recipe(), owner=user("bob"))
        Bundle.objects.update(recipe=run.recipe)

    assert remove(ada, bundle).status_code == 204

    assert is_published(bundle.pk)
    assert tidy() == []


def test_a_removed_bundle_is_built_again_as_a_new_claim(ada):
    run = submit_run(demo_recipe(), owner=ada)
    bundle = make_bundle(recipe=run.recipe, public=False)
    Run.objects.update(state="succeeded", bundle=bundle)
    user_too = user("bob")
    make_run(owner=user_too, bundle=bundle, state="succeeded")
    assert submit_run(demo_recipe(), owner=ada).pk == run.pk
    discard_bundle(bundle, ada)

    again = submit_run(demo_recipe(), owner=ada)

    assert again.pk != run.pk
    refused = remove(user_too, bundle)
    assert refused.status_code == 204  # hers goes on, so the files stay
    assert is_published(bundle.pk)


def test_what_ones_own_run_is_making_again_is_not_removed(ada):
    run = submit_run(demo_recipe(), owner=ada)
    bundle = made_by(ada, recipe=run.recipe)

    answer = remove(ada, bundle)

    assert (answer.status_code, answer.json()["code"]) == (409, "removal_refused")
    assert f"run {run.pk} is making it again" in answer.json()["detail"]


def test_a_published_bundle_goes_only_with_a_note_that_everybody_reads(ada):
    bundle = made_by(ada, public=True)

    assert remove(ada, bundle).status_code == 409
    assert remove(ada, bundle, "x" * 300).status_code == 409
    assert is_published(bundle.pk)
    assert remove(ada, bundle, "wrong+labels").status_code == 204

    page = Client().get(f"/bundles/{bundle.pk}/")
    assert page.status_code == 410
    assert "removed by its owner: wrong labels" in page.content.decode()


def test_what_was_sent_elsewhere_goes_with_a_note_and_not_while_it_is_sent(ada):
    bundle = made_by(ada)
    sent = Deposit.objects.create(
        bundle=bundle, owner=ada, place="zenodo", total_bytes=1, state="running"
    )

    busy = remove(ada, bundle, "old")
    assert (busy.status_code, "being sent to zenodo" in busy.json()["detail"]) == (409, True)
    Deposit.objects.update(state="succeeded", url="https://zenodo.org/deposit/1")
    assert remove(ada, bundle).status_code == 409
    assert "https://zenodo.org/deposit/1" in str(
        of(ada).get(f"/bundles/{bundle.pk}/remove/").content
    )
    assert remove(ada, bundle, "old").status_code == 204
    assert Deposit.objects.get() == sent


def test_a_bundle_that_is_being_downloaded_waits(ada, settings):
    settings.KEEP_BUNDLE_DAYS = 1
    bundle = made_by(ada, build="private")
    Bundle.objects.update(created_at=now() - timedelta(days=2))
    answer = of(ada).get(f"/api/v1/bundles/{bundle.pk}/download/")
    chunks = iter(answer.streaming_content)
    first = next(chunks)

    refused = remove(ada, bundle)

    assert (refused.status_code, "being downloaded" in refused.json()["detail"]) == (409, True)
    assert tidy() == []
    assert len(first) + sum(map(len, chunks)) == int(answer["Content-Length"])
    Bundle.objects.update(read_until=now())
    assert remove(ada, bundle).status_code == 204


def test_staff_remove_for_everybody_with_a_note_but_nothing_pinned(ada):
    staff = User.objects.create(username="root", is_staff=True)
    bundle = made_by(ada, user("bob"), pinned=True)

    assert remove(staff, bundle).status_code == 409
    assert "pinned" in remove(staff, bundle, "unlawful").json()["detail"]
    Bundle.objects.update(pinned=False)
    assert remove(staff, bundle, "unlawful").status_code == 204

    assert not is_published(bundle.pk)
    told = of(ada).get(f"/api/v1/bundles/{bundle.pk}/").json()["detail"]
    assert "removed by the staff of this portal: unlawful" in told


def test_files_that_a_cut_short_removal_left_go_later(ada):
    bundle = made_by(ada)
    Run.objects.update(given_up_at=now())

    assert [(one.name, one.why) for one in tidy()] == [(bundle.pk, "nobody holds it any more")]

    assert not is_published(bundle.pk)


def test_without_scripts_the_pages_ask_first_and_say_what_was_removed(ada):
    bundle, browser = made_by(ada), of(ada)
    address = f"/bundles/{bundle.pk}/remove/"
    assert f'href="{address}"' in browser.get("/account/").content.decode()
    assert f'href="{address}"' in browser.get(f"/bundles/{bundle.pk}/").content.decode()

    assert b'name="why"' not in browser.get(address).content  # nobody was told of it
    assert is_published(bundle.pk)
    page = browser.post(address, follow=True)

    assert page.redirect_chain == [("/account/", 302)]
    html = page.content.decode()
    assert "Two small sources was removed" in html
    assert address not in html
    assert not is_published(bundle.pk)
    assert browser.get(address).status_code == 410

"""Choosing datasets and looking at them side by side."""

from __future__ import annotations

import contextlib
import html as entities
import io
import json
import re
import shlex
import subprocess

import pytest

from portal.urls import api, urlpatterns
from tests.factories import make_dataset

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("datasets")]


def text(answer) -> str:
    return answer.content.decode()


def links(html: str) -> list[str]:
    return [entities.unescape(address) for address in re.findall(r'href="([^"]+)"', html)]


def row(html: str, title: str) -> str:
    return next(part for part in html.split("<tr") if f'<th scope="row">{title} ' in part)


def copied(html: str, name: str) -> str:
    found = re.search(rf'<pre id="{name}"[^>]*>(.*?)</pre>', html, re.DOTALL)
    assert found is not None
    return entities.unescape(found[1])


def test_each_field_says_in_words_how_its_values_stand_to_each_other(client):
    make_dataset("third", modalities=["OCT"], anatomies=["Retina", "Eye"], year=2020)
    html = text(client.get("/compare/", {"slug": ["first-fundus", "third"]}))

    assert "≠</span> differs" in row(html, "Modality")
    assert "?</span> partly unknown" in row(html, "Licence")
    assert '<span class="unknown">unknown</span>' in row(html, "Licence")
    assert '<mark class="only">Eye</mark><span class="visually-hidden"> (not in all)' in row(
        html, "Anatomy"
    )
    assert '<mark class="only">Retina' not in html
    assert re.search(r"Stated for none of them: .*DOI", html)


def test_only_what_differs_can_be_asked_for_by_address(client):
    slugs = ["first-fundus", "second-fundus"]
    whole = text(client.get("/compare/", {"slug": slugs}))
    way = next(link for link in links(whole) if link.endswith("rows=differing"))

    html = text(client.get(way))

    assert ">Anatomy <" in whole
    assert ">Anatomy <" not in html
    assert ">Year <" in html
    assert re.search(r'aria-current="true">Only what differs', html)


def test_what_all_share_and_what_their_licences_allow_is_said(client):
    relation = {"to": "first-fundus", "kind": "subset", "evidence": "its paper", "trust": "read"}
    make_dataset(
        "part", relations=[relation], licence="CC-BY-NC-4.0", modalities=["Fundus photography"]
    )
    html = text(client.get("/compare/", {"slug": ["part", "first-fundus"]}))

    assert "Modality: Fundus photography" in html
    assert "Not to use them commercially." in html
    assert "You may pass the files on." in html
    assert "certain overlap: one is a part of the other" in html
    assert "its paper" in html


def test_an_unknown_licence_allows_nothing_together(client):
    html = text(client.get("/compare/", {"slug": ["first-fundus", "second-fundus"]}))

    assert "No source states the licence of one dataset." in html
    assert "Not to pass the files on." in html


def test_a_choice_of_one_leads_on_to_its_family_and_its_likes(client):
    make_dataset("series-1", family="Series", modalities=["OCT"])
    make_dataset("series-2", family="Series", modalities=["OCT"])

    one = text(client.get("/compare/", {"slug": "series-1"}))
    other = text(client.get("/compare/", {"slug": "first-fundus"}))

    assert "/compare/?slug=series-1&slug=series-2" in links(one)
    assert "/compare/?slug=first-fundus&slug=second-fundus" in links(other)
    assert client.get("/compare/").status_code == 200


def test_a_dataset_is_added_by_any_of_its_names(client):
    make_dataset("chase-db1", name="CHASE_DB1", aliases=["Child Heart Study"])
    for name in ("chase-db1", "chase db1", "child heart study"):
        answer = client.get("/compare/", {"slug": "first-fundus", "add": name})
        assert answer.status_code == 302
        assert answer["Location"] == "/compare/?slug=first-fundus&slug=chase-db1"


def test_one_is_taken_out_by_its_link(client):
    slugs = ["first-fundus", "second-fundus", "icbm152-2009a"]
    html = text(client.get("/compare/", {"slug": slugs, "rows": "differing"}))

    assert "/compare/?slug=first-fundus&slug=icbm152-2009a&rows=differing" in links(html)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"slug": ["furst-fundus", "second-fundus"]}, "nearest: 'first-fundus'"),
        ({"slug": [f"d{n}" for n in range(7)]}, "found '7 datasets', expected 2 to 6 datasets"),
        ({"slug": "first-fundus", "add": "Secnd Fundus"}, "nearest: 'Second Fundus'"),
        ({"rows": "differring"}, "nearest: 'differing'"),
        ({"slugs": "first-fundus"}, "nearest: 'slug'"),
    ],
)
def test_a_slip_in_the_address_is_named_with_the_nearest(client, params, said):
    answer = client.get("/compare/", params)

    assert answer.status_code == 400
    assert said in entities.unescape(text(answer))


def test_a_wrong_address_leads_on_with_what_was_meant(client):
    html = text(client.get("/compare/", {"slug": ["furst-fundus", "second-fundus"]}))

    assert "/compare/?slug=first-fundus&slug=second-fundus" in links(html)


def test_results_can_be_ticked_and_compared_as_a_plain_form(client):
    html = text(client.get("/datasets/", {"q": "fundus"}))

    form = re.search(r'<form id="compare"[^>]*action="([^"]+)"', html)
    assert form is not None
    ticks = re.findall(r'<input type="checkbox" name="slug" value="([^"]+)" form="compare"', html)
    assert len(ticks) == html.count('<article class="result">') > 1
    assert client.get(form[1], {"slug": ticks}).status_code == 200


def test_a_dataset_page_shows_its_likes_with_the_reason_and_a_way_to_compare(client):
    html = text(client.get("/datasets/first-fundus/"))

    part = html.split('id="similar"')[1].split("</section>")[0]
    assert "Second Fundus" in part
    assert "Retina (2 datasets)" in part
    assert "/compare/?slug=first-fundus&slug=second-fundus" in links(part)
    everything = next(link for link in links(part) if link.startswith("/datasets/?"))
    assert "2 datasets match" in text(client.get(everything))


def test_names_from_outside_are_written_as_text(client):
    make_dataset("evil", name='"><script>alert(1)</script>')

    for address in ("/compare/?slug=evil&slug=first-fundus", "/compare/?slug=evil", "/datasets/"):
        assert "<script>alert" not in text(client.get(address))


def test_no_dataset_has_the_address_of_another_page(shipped):
    routes = (str(route.pattern) for route in (*api, *urlpatterns))
    taken = {found[1] for route in routes if (found := re.fullmatch(r"datasets/(\w+)/", route))}

    assert taken == {"compare", "feed"}
    assert taken.isdisjoint(shipped)


@pytest.mark.parametrize(
    ("page", "params", "expected"),
    [
        ("/datasets/", {"q": """it's "the" eye"""}, {"apostrophe"}),
        (
            "/datasets/",
            {"modality": "Fundus photography", "sort": "name"},
            {"first-fundus", "second-fundus"},
        ),
        (
            "/compare/",
            {"slug": ["second-fundus", "first-fundus"]},
            {"first-fundus", "second-fundus"},
        ),
    ],
)
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("datasets")
def test_copied_calls_run_and_find_what_the_page_shows(live_server, client, page, params, expected):
    make_dataset("apostrophe", name="It's the eye")
    host = live_server.url.removeprefix("http://")
    html = text(client.get(page, params, headers={"host": host}))

    run = subprocess.run(
        [*shlex.split(copied(html, "api-call")), "-sS"], capture_output=True, check=True
    )
    by_curl = json.loads(run.stdout)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(copied(html, "python-call"), "copied", "exec"), {})  # noqa: S102

    rows = by_curl["results"] if page == "/datasets/" else by_curl["datasets"]
    assert {one["slug"] for one in rows} == expected
    lines = printed.getvalue().splitlines()
    assert lines == [f"{one['slug']} - {one['name']}" for one in rows]
    assert all(entities.escape(one["name"]) in html for one in rows)

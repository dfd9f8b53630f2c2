"""The start page, search and dataset pages."""

from __future__ import annotations

import json
import re

import pytest
from django.test.utils import override_script_prefix

from catalog.models import Dataset
from catalog.services import dataset_values, load_facts
from portal.web.datasets import without
from portal.web.words import licence_lines
from tests.factories import make_bundle, make_dataset, make_facts

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("datasets")]


def links(html: str) -> list[str]:
    return [address.replace("&amp;", "&") for address in re.findall(r'href="([^"]+)"', html)]


def test_the_start_page_counts_what_its_links_find(client):
    html = client.get("/").content.decode()

    assert re.search(r"<dt>datasets</dt><dd>4</dd>", html)
    way = next(link for link in links(html) if link.startswith("/datasets/?modality=Fundus"))
    assert "2 datasets match" in client.get(way).content.decode()


def test_the_body_map_links_each_region_to_as_many_datasets_as_it_says(client):
    html = client.get("/").content.decode()

    body = html.split('<svg class="body-map"')[1].split("</svg>")[0]
    named = re.findall(r'href="([^"]+)" aria-label="([\w ]+): (\d+) datasets"', body)
    assert [name for _, name, _ in named] == ["Head and neck", "Brain", "Eye"]
    for address, _, number in named:
        assert f"{number} datasets match" in client.get(address).content.decode()


def test_gaps_say_what_each_search_finds_and_mark_empty_cells(client):
    html = client.get("/").content.decode().split('id="gaps"')[1]
    figures = client.get("/api/v1/catalog/statistics/").json()["gaps"]

    assert '<td class="shade-0"><span class="none"' in html
    cells = re.findall(
        r'href="(/datasets/\?modality=[^"]+anatomy=[^"]+)"><span.+?</span>(\d+)</a>', html
    )
    assert cells
    for address, number in cells:
        found = client.get(address.replace("&amp;", "&").replace("/datasets/", "/api/v1/datasets/"))
        assert found.json()["total"] == int(number)
    assert figures["across"][:2] == ["Eye", "Head and neck"]
    assert figures["cells"][figures["down"].index("MR")][:2] == [0, 2]


def test_pages_take_few_queries_however_much_they_show(client, django_assert_num_queries):
    bundle = make_bundle()
    client.get("/")  # the first search builds the index, and the first page the gaps
    client.get("/datasets/")  # the first list of results writes what it shows of each
    client.get("/datasets/first-fundus/")  # and the first page of a dataset what is like it
    for page, number in {
        "/": 8,
        "/datasets/": 3,
        "/datasets/first-fundus/": 5,
        "/recipes/": 1,
        "/runs/": 1,
        "/bundles/": 2,
        f"/bundles/{bundle.pk}/": 2,
    }.items():
        with django_assert_num_queries(number):
            client.get(page)


def test_a_facet_link_narrows_and_the_same_link_again_widens(client):
    html = client.get("/datasets/").content.decode()
    narrow = next(link for link in links(html) if link == "?modality=Fundus+photography")

    html = client.get("/datasets/" + narrow).content.decode()

    strict = html.split('id="near"')[0]
    assert "2 datasets match" in strict
    assert "First Fundus" in strict
    assert "Mni152" not in strict
    assert re.search(r'aria-current="true"><span>Fundus photography', html)
    assert "/datasets/" in links(html)


def test_the_bar_of_a_facet_value_is_its_share_of_the_largest_count(client):
    for number in range(8):
        make_dataset(f"pet-{number}", modalities=["PET"])

    html = client.get("/datasets/").content.decode()

    bars = dict(re.findall(r'<a class="b(\d+)" href="\?modality=[^"]+"><span>([^<]+)', html))
    assert bars["10"] == "PET"
    assert set(bars) - {"10"} <= {"1", "2", "3"}


def test_what_was_understood_can_be_taken_out_again(client):
    html = client.get("/datasets/", {"q": "fundus first"}).content.decode()

    assert "Modality: Fundus photography" in html
    assert "?q=first" in links(html)


@pytest.mark.parametrize(
    ("text", "words", "left"),
    [
        ("retinal vessel CT", "Vessel", "retinal CT"),
        ("x-ray chest", "x-ray", "chest"),
        ("acting CT", "CT", "acting"),
        ("lung", "brain", "lung"),
        ("chest  x ray of lung", "chest x ray", "of lung"),
    ],
)
def test_words_are_taken_out_whole(text, words, left):
    assert without(text, words) == left


def test_near_results_stand_apart_and_say_what_differs(client):
    html = client.get("/datasets/", {"q": "fundus", "licence": "CC-BY-4.0"}).content.decode()

    strict, near = html.split('id="near"')
    assert "First Fundus" in strict
    assert "Second Fundus" not in strict
    assert "Second Fundus" in near
    assert "licence is unknown" in near


def test_a_search_away_is_answered_by_the_built_in_index_and_said(client, settings):
    settings.SEARCH_URL = "http://127.0.0.1:9"  # nothing listens on the discard port

    answer = client.get("/datasets/", {"q": "fundus"})

    assert answer.status_code == 200
    html = answer.content.decode()
    assert "The search server does not answer" in html
    assert "First Fundus" in html
    assert client.get("/").status_code == 200


def test_a_search_is_shown_as_the_api_call_that_finds_the_same(client):
    html = client.get("/datasets/", {"q": "fundus", "sort": "name"}).content.decode()

    address = re.search(r"curl &#x27;http://testserver(.+?)&#x27;", html)
    assert address is not None
    found = client.get(address[1].replace("&amp;", "&")).json()
    assert [hit["slug"] for hit in found["results"]] == ["first-fundus", "second-fundus"]


def test_text_from_outside_is_written_as_text(client):
    make_dataset("evil", name="<script>alert(1)</script>", aliases=["<img src=x>"])

    for page in ("/datasets/", "/datasets/evil/", "/datasets/?q=%3Cscript%3E"):
        html = client.get(page).content.decode()
        assert "<script>alert" not in html
        assert "<img src=x>" not in html


def test_a_dataset_page_says_unknown_and_shows_every_claim_behind_a_value(client):
    make_dataset("other")
    make_dataset(
        "shy",
        {
            "year": [
                {"value": 2011, "source": "curation", "basis": "read", "reason": "its paper",
                 "url": "https://doi.org/10.1/x"},
                {"value": 2014, "source": "amid", "raw": "2014"},
            ],
            "access": [{"value": "open", "source": "project-imaging-x"}],
        },
        counts=[{"number": 1414, "source": "openmedlab", "raw": "1.4k"}],
        relations=[{"to": "other", "kind": "subset", "evidence": "its page"}],
    )  # fmt: skip

    html = client.get("/datasets/shy/").content.decode()

    assert html.count('<span class="unknown">unknown</span>') >= 7
    for said in ("sources disagree", "its paper", "https://doi.org/10.1/x", "2014", "1.4k"):
        assert said in html
    assert "1,414 of unknown unit" in html
    assert "Unknown: no source says how to get the files." in html
    assert "this dataset is a part of it" in html
    assert "assume that all rights are reserved" in html
    assert "size_unknown" not in html
    assert "count_without_unit" in html
    assert 'href="/api/v1/datasets/shy/"' in html


def test_a_stated_none_is_no_unknown(client):
    make_dataset("healthy", diseases=[], tasks=["Segmentation"])
    make_dataset("silent", tasks=["Segmentation"])

    page = client.get("/datasets/healthy/").content.decode()
    both = client.get("/compare/?slug=healthy&slug=silent").content.decode()
    figures = client.get("/api/v1/catalog/statistics/").json()

    assert 'href="/datasets/?disease=none">none</a>' in page
    line = re.search(r"<tr[^>]*>\s*<th scope=\"row\">Disease.*?</tr>", both, re.DOTALL)
    assert line is not None
    assert "none" in line[0]
    assert '<span class="unknown">unknown</span>' in line[0]
    rows = {row["name"]: row["rows"] for row in figures["figures"]}
    assert {row["value"]: row["number"] for row in rows["disease"]}["none"] == 1


def test_a_dataset_page_carries_its_description_for_search_engines(client):
    make_dataset("evil", name="</script><script>alert(1)</script>")
    html = client.get("/datasets/evil/").content.decode()

    block = re.search(r'<script type="application/ld\+json">(.+?)</script>', html)
    assert block is not None
    data = json.loads(block[1])
    assert data["name"] == "</script><script>alert(1)</script>"
    assert data["@type"] == "sc:Dataset"


def test_a_harvested_record_says_that_no_curator_looked_at_it(client):
    facts = make_facts("raw-one")
    Dataset.objects.create(**dataset_values({**facts, "tier": "harvested"}))

    assert "no curator has looked at it" in client.get("/datasets/raw-one/").content.decode()


def test_the_statistics_page_links_each_figure_to_the_datasets_behind_it(client):
    html = client.get("/statistics/").content.decode()

    found = re.search(r'href="(/datasets/\?modality=Fundus[^"]+)"', html)
    assert found is not None
    shown = client.get(found[1].replace("&amp;", "&")).content.decode()
    assert "First Fundus" in shown
    assert "Each dataset counts once for every value" in html
    assert '<span class="bar-name">Modality</span>' in html  # not the key of the fact


def test_a_dataset_page_names_the_recipes_that_use_it(client):
    html = client.get("/datasets/icbm152-2009a/").content.decode()

    assert 'href="/recipes/#brain-tissue"' in html


def test_a_licence_is_told_in_plain_words():
    lines = {line.text: line.mood for line in licence_lines("CC-BY-NC-SA-4.0")}

    assert lines["You may pass the files on."] == "yes"
    assert lines["Not to use them commercially."] == "no"
    assert lines["Put what you make from it under the same licence."] == "must"


def test_an_unknown_address_is_a_page_and_in_the_api_a_problem(client):
    assert "Nothing is at this address" in client.get("/nowhere/").content.decode()
    answer = client.get("/api/v1/nowhere/")
    assert answer.status_code == 404
    assert answer.json()["status"] == 404
    assert client.get("/datasets/nowhere/").status_code == 404


def test_datasets_of_one_family_are_folded_under_the_first(client):
    for year in (2018, 2019, 2020):
        make_dataset(f"fam-{year}", name=f"Fam {year}", family="Fam", modalities=["PET"], year=year)
    html = client.get("/datasets/", {"q": "PET"}).content.decode()

    assert "3 datasets match" in html
    assert html.count('<h3><a href="/datasets/fam-') == 1
    assert "2 more of the Fam family on this page" in html
    assert 'href="/datasets/fam-2018/"' in html
    everyone = client.get("/datasets/", {"q": "PET", "family": "Fam"}).content.decode()
    assert everyone.count('<h3><a href="/datasets/fam-') == 3


def test_a_family_stands_once_over_all_pages_and_no_dataset_is_lost(client):
    for number in range(30):
        make_dataset(f"fam-{number:02d}", family="Fam", modalities=["PET"], dimensions=["4D"])
    first = client.get("/datasets/", {"dimension": "4D"}).content.decode()
    second = client.get("/datasets/", {"dimension": "4D", "page": "2"}).content.decode()

    assert first.count('<h3><a href="/datasets/fam-') == 1
    assert second.count('<h3><a href="/datasets/fam-') == 0
    assert "more of families that stand on earlier pages" in second
    linked = set(re.findall(r"/datasets/(fam-\d\d)/", first + second))
    assert linked == {f"fam-{number:02d}" for number in range(30)}


def test_a_size_is_asked_for_by_a_form_and_taken_out_as_a_chip(client):
    make_dataset("wide", counts=[{"number": 3000, "unit": "image", "source": "curation"}])
    html = client.get("/datasets/", {"size_from": "2000", "unit": "image"}).content.decode()

    assert "1 dataset match" in html
    assert "Size: 2,000 images or more" in html
    assert 'name="size_from" value="2000"' in html
    assert '<option value="image" selected>images</option>' in html
    wrong = client.get("/datasets/", {"size_from": "9", "size_to": "3", "unit": "imagee"})
    assert wrong.status_code == 400
    said = wrong.content.decode()
    assert "<code>imagee</code>" in said
    assert "nearest: &#x27;image&#x27;" in said
    assert "a size up to size_to (3)" in said


def test_what_was_excluded_is_a_chip_that_can_be_removed(client):
    html = client.get("/datasets/", {"q": "retina -modality:MR", "not_access": "open"}).content
    html = html.decode()

    assert "Not modality: MR" in html
    assert "Not access: open" in html
    chips = [link for link in links(html) if link.startswith(("/datasets/?", "?"))]
    assert any("not_access" not in link and "modality" in link for link in chips)


@pytest.mark.parametrize("address", ["/datasets/", "/datasets/feed/", "/api/v1/datasets/"])
def test_a_misspelled_field_in_the_text_is_a_400_with_the_nearest(client, address):
    answer = client.get(address, {"q": "liver modality:ultrasond"})

    assert answer.status_code == 400
    assert "Ultrasound" in answer.content.decode()


def test_a_dataset_page_names_the_shipped_source_descriptions_and_how_far_they_are_checked(client):
    html = client.get("/datasets/icbm152-2009a/").content.decode()
    record = client.get("/api/v1/datasets/icbm152-2009a/").json()

    assert "<code>icbm152-2009a</code>" in html
    assert "checked against real files" in html
    assert (
        "A source description is shipped"
        not in client.get("/datasets/first-fundus/").content.decode()
    )
    assert [one["name"] for one in record["source_descriptions"]] == ["icbm152-2009a"]
    assert "grey_matter" in record["source_descriptions"][0]["concepts"]


@pytest.mark.parametrize("view", ["list", "table", "cards"])
def test_every_view_shows_the_same_datasets_and_its_links_keep_it(client, view):
    html = client.get("/datasets/", {"q": "fundus", "view": view}).content.decode()

    strict = html.split('id="near"')[0]
    for slug in ("first-fundus", "second-fundus"):
        assert f'href="/datasets/{slug}/"' in strict
        assert f'value="{slug}" form="compare"' in strict
    kept = [link for link in links(html) if link.startswith("?") and "sort=newest" in link]
    assert [("view=" in link) for link in kept] == [view != "list"]
    assert ('name="view" value="table"' in html) == (view == "table")
    assert ('<td class="num"><span class="unknown">unknown</span></td>' in html) == (
        view == "table"
    )


def test_the_table_folds_no_family(client):
    for year in (2018, 2019, 2020):
        make_dataset(f"fam-{year}", family="Fam", modalities=["PET"], year=year)
    html = client.get("/datasets/", {"q": "PET", "view": "table"}).content.decode()

    assert html.count('<th scope="row"><a href="/datasets/fam-') == 3


def test_an_unknown_view_is_a_400_with_the_nearest(client):
    answer = client.get("/datasets/", {"view": "tabel"})

    assert answer.status_code == 400
    assert "nearest: &#x27;table&#x27;" in answer.content.decode()


def test_a_result_set_is_taken_along_as_files(client):
    make_dataset("third-fundus", modalities=["Fundus photography"], access="open")
    html = client.get("/datasets/", {"q": "fundus", "not_access": "open"}).content.decode()

    address = next(link for link in links(html) if "format=jsonl" in link)
    lines = client.get(address).content.decode().splitlines()
    assert [json.loads(line)["slug"] for line in lines] == ["first-fundus"]
    assert any("format=bibtex" in link for link in links(html))


def test_the_basket_leads_to_compare_and_to_fuse(client):
    html = client.get("/datasets/", {"q": "fundus"}).content.decode()

    assert 'formaction="/blueprint/"' in html
    page = client.get("/blueprint/?slug=first-fundus&slug=second-fundus")
    assert page.status_code == 200


def test_relations_are_a_picture_with_the_same_in_words(client):
    make_dataset("whole", name="The Whole")
    relation = {"to": "whole", "kind": "subset", "evidence": "its page"}
    make_dataset("part", relations=[relation])
    html = client.get("/datasets/part/").content.decode()

    picture, words = html.split('<svg class="graph')[1].split("</svg></div>")
    assert 'href="/datasets/whole/" aria-label="The Whole: contains this"' in picture
    assert "this dataset is a part of it" in words
    assert '<svg class="graph' not in client.get("/datasets/first-fundus/").content.decode()


def test_a_dataset_page_tells_what_versions_changed(client):
    load_facts([make_facts("one", year=2001)], "record files")
    load_facts([make_facts("one", year=2002)], "a better record")

    html = client.get("/datasets/one/").content.decode()

    assert "a better record" in html
    assert re.search(r"Year: <del>2001</del>.*2002", html)


@pytest.mark.parametrize("view", ["list", "table", "cards"])
def test_a_result_is_never_older_than_its_row(client, view):
    asked = {"q": "fundus", "view": view}
    assert "First Fundus" in client.get("/datasets/", asked).content.decode()

    row = Dataset.objects.get(slug="first-fundus")
    row.name, row.year = "Renamed & changed", 1999
    row.save()
    html = client.get("/datasets/", asked).content.decode()
    assert "First Fundus" not in html
    assert "Renamed &amp; changed" in html
    assert "1999" in html.split('id="near"')[0].split('class="facets"')[1].split("</aside>")[1]

    facts = make_facts("first-fundus", modalities=["Fundus photography"], year=2001)
    Dataset.objects.filter(slug="first-fundus").update(**dataset_values(facts))
    html = client.get("/datasets/", asked).content.decode()
    assert "Renamed" not in html
    assert "2001" in html.split('id="near"')[0].split('class="facets"')[1].split("</aside>")[1]


def test_links_begin_with_the_prefix_that_the_request_came_with(client):
    for prefix in ("", "/images"):
        with override_script_prefix(f"{prefix}/"):
            html = client.get("/datasets/", {"q": "fundus"}).content.decode()
        own = [link for link in links(html) if link.startswith("/") and "static" not in link]
        assert f"{prefix}/datasets/first-fundus/" in own
        assert all(link.startswith(f"{prefix}/") for link in own)
        assert prefix or not any(link.startswith("/images/") for link in own)

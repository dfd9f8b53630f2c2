"""The page of rules: form, JSON, phases, reasons, and what stands in its address."""

from __future__ import annotations

import itertools
import json
import re
from urllib.parse import parse_qs, urlsplit

import pytest

from catalog import vocab
from catalog.licences import LICENCES
from catalog.rules import KEYS
from portal.web.rules import LABELS
from tests.factories import make_dataset
from tests.web.test_markup import Page

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("shelf")]
URL = "/rules/"


@pytest.fixture
def shelf(db) -> None:  # noqa: ARG001 - rows need the database
    counts = [{"number": 500, "unit": "image", "source": "curation"}]
    flat = {"dimensions": ["2D"], "tasks": ["Segmentation"], "counts": counts}
    make_dataset("ct-flat", name="Flat CT", modalities=["CT"], licence="MIT", **flat)
    make_dataset("ct-part", name="CT <b>part</b>", modalities=["CT"], publisher="A", **flat)
    make_dataset("oct-flat", name="Flat OCT", modalities=["OCT"], **flat)
    for number in range(60):
        make_dataset(f"mr-{number:02d}", modalities=["MR"], dimensions=["3D"])


def links(html: str) -> list[str]:
    return [address.replace("&amp;", "&") for address in re.findall(r'href="([^"]+)"', html)]


def form(html: str) -> dict[str, str]:
    """The form's fields as a browser would send them."""
    part = html.split('id="form"')[1].split("</form>", maxsplit=1)[0]
    values = {"from": "form", "profile": "stated"}
    for tag in re.findall(r"<input [^>]+>", part):
        name = re.search(r'name="([^"]+)"', tag)[1]
        if 'type="checkbox"' in tag and " checked" not in tag:
            continue
        values[name] = re.search(r'value="([^"]*)"', tag)[1]
    values["dimension"] = re.search(r"<option selected>([^<]+)<", part)[1]
    values.pop("csrfmiddlewaretoken", None)
    return values


def test_the_page_shows_the_published_rules_and_what_they_keep(client):
    html = client.get(URL).content.decode()

    assert "2 of 63 datasets are kept" in html
    assert "/datasets/ct-flat/" in links(html)
    assert "CT &lt;b&gt;part&lt;/b&gt;" in html
    assert "/datasets/oct-flat/" not in links(html)
    assert all(f"Phase {number}:" in html for number in (1, 2, 3, 4))
    assert "1,173,965" in html
    assert '"min_valid_image_n_per_dataset": 100' in html.replace("&quot;", '"')


def test_a_dropped_dataset_says_by_which_rules(client):
    html = client.get(URL, {"show": "dropped"}).content.decode()

    row = html.split('href="/datasets/mr-00/"')[1].split("</tr>")[0]
    assert re.findall(r"<code>([\w.]+)</code>", row) == [
        "dimension",
        "task_types",
        "min_valid_image_n_per_dataset",
    ]
    assert "2D alone" in row
    html = client.get(URL, {"rule": "modalities"}).content.decode()
    assert "Datasets dropped first by modalities (1)" in html
    assert "/datasets/oct-flat/" in links(html)


def test_long_lists_have_pages_and_the_address_keeps_the_rules(client):
    rules = '{"modalities":["CT"]}'
    html = client.get(URL, {"rules": rules, "show": "dropped"}).content.decode()

    following = next(link for link in links(html) if "page=2" in link)
    asked = parse_qs(urlsplit(following).query)
    assert asked == {"rules": [rules], "show": ["dropped"], "page": ["2"]}
    html = client.get(following).content.decode()
    assert "Page 2 of 2" in html
    assert client.get(URL, {"show": "dropped", "page": "99"}).status_code == 200


def test_the_form_as_shown_gives_the_same_rules_again(client):
    before = form(client.get(URL).content.decode())

    answer = client.post(URL, before)

    assert answer.status_code == 302
    assert answer["Location"] == URL


def test_the_form_changes_rules_and_leads_to_their_address(client):
    values = form(client.get(URL).content.decode())
    values |= {"modalities": "OCT, mri", "selection.enable": "1", "license_allowlist": ""}
    values |= {"selection.min_datasets_per_modality": "1", "selection.min_orgs_per_modality": "0"}
    values |= {"selection.storage_budget_gb": "2.5", "selection.include_unknown_size": "1"}
    values.pop("prefer_labeled")

    answer = client.post(URL, values, follow=True)

    address = answer.redirect_chain[-1][0]
    assert json.loads(parse_qs(urlsplit(address).query)["rules"][0]) == {
        "modalities": ["OCT", "MR"],
        "prefer_labeled": False,
        "selection": {
            "enable": True,
            "min_datasets_per_modality": 1,
            "min_orgs_per_modality": 0,
            "storage_budget_gb": 2.5,
            "include_unknown_size": True,
        },
    }
    html = answer.content.decode()
    assert "1 of 63 datasets are kept" in html
    assert form(html)["modalities"] == "OCT, MR"


def test_json_of_ones_own_is_applied(client):
    body = {"from": "json", "profile": "compatibility", "rules": '{"license_allowlist": ["mit"]}'}

    answer = client.post(URL, body, follow=True)

    assert "0 of 63 datasets are kept" in answer.content.decode()  # its organisation is not known
    assert parse_qs(urlsplit(answer.redirect_chain[-1][0]).query)["profile"] == ["compatibility"]


def test_rules_too_long_for_an_address_are_answered_at_once(client):
    anatomies = list(vocab.terms("anatomy"))
    every = {"license_allowlist": list(LICENCES), "anatomy_whitelist": anatomies}

    answer = client.post(URL, {"from": "json", "rules": json.dumps(every)})

    assert answer.status_code == 200
    assert "0 of 63 datasets are kept" in answer.content.decode()


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"rules": '{"modality": []}'}, "modalities"),
        ({"rules": "{"}, "line 1, column 2"),
        ({"profile": "compatability"}, "compatibility"),
        ({"show": "keep"}, "kept"),
        ({"rule": "task_type"}, "task_types"),
        ({"page": "two"}, "a whole number from 1"),
        ({"profil": "stated"}, "profile"),
    ],
)
def test_a_wrong_address_is_a_400_that_says_what_is_expected(client, params, said):
    answer = client.get(URL, params)

    assert answer.status_code == 400
    assert said in answer.content.decode()
    assert "datasets are kept" not in answer.content.decode()


def test_what_was_typed_stays_when_it_is_refused(client):
    values = form(client.get(URL).content.decode())
    values |= {"modalities": "CT, PETT", "min_valid_image_n_per_dataset": "many"}

    answer = client.post(URL, values)

    html = answer.content.decode()
    assert answer.status_code == 400
    assert form(html)["modalities"] == "CT, PETT"
    assert form(html)["min_valid_image_n_per_dataset"] == "many"
    assert "2 problems" in html
    text = client.post(URL, {"from": "json", "rules": '{"x": <1>}'}).content.decode()
    assert "{&quot;x&quot;: &lt;1&gt;}</textarea>" in text


def test_every_key_has_a_field_and_a_row_that_explains_it(client):
    html = client.get(URL).content.decode()

    assert set(LABELS) == {key.name for key in KEYS}
    for key in KEYS:
        assert f'name="{key.name}"' in html
        assert f'id="k-{key.name.replace(".", "-")}"' in html


def test_the_search_of_the_rules_shows_what_is_kept(client):
    html = client.get(URL).content.decode()

    way = next(link for link in links(html) if link.startswith("/datasets/?dimension=2D"))
    found = client.get(way).content.decode()
    assert "2 datasets match" in found
    assert "Flat CT" in found


@pytest.mark.parametrize("params", [{}, {"show": "dropped"}, {"rules": "{"}])
def test_the_page_has_nothing_inline_and_everything_labelled(client, params):
    page = Page(client.get(URL, params).content.decode())

    assert page.inline == []
    assert set(page.fields) <= page.labels
    assert len(page.ids) == len(set(page.ids))
    main = page.headings[page.headings.index(1) :]
    assert main.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(main))


def test_the_page_takes_one_query(client, django_assert_num_queries):
    with django_assert_num_queries(1):
        client.get(URL)

"""Search boxes know where suggestions come from; a poor answer links what was meant."""

from __future__ import annotations

import pytest

from tests.factories import make_dataset

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("datasets")]


@pytest.mark.parametrize("address", ["/", "/datasets/", "/statistics/", "/datasets/first-fundus/"])
def test_every_page_has_one_search_box_with_suggestions(client, address):
    page = client.get(address).content.decode()

    assert page.count('data-suggest="/api/v1/suggest/"') == 1
    assert page.count("portal/js/suggest.js") == 1


def test_the_question_that_was_meant_is_a_link_that_keeps_the_filters(client):
    make_dataset("colin", name="Colin 27")
    make_dataset("polyps", name="Polyps", anatomies=["Colon"], modalities=["Endoscopy"])

    page = client.get("/datasets/", {"q": "colin", "modality": "Endoscopy"}).content.decode()

    assert 'Did you mean <a href="?q=colon&amp;modality=Endoscopy">colon</a>?' in page
    assert "Did you mean" not in client.get("/datasets/", {"q": "colon"}).content.decode()

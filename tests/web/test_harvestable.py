"""Other catalogs and crawlers read ours: with the clients that they use."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from datetime import UTC, datetime, timedelta
from urllib.robotparser import RobotFileParser

import mlcroissant
import pyshacl
import pytest
from rdflib import DCAT, RDF, Graph
from sickle import Sickle
from sickle.oaiexceptions import (
    BadArgument,
    BadResumptionToken,
    CannotDisseminateFormat,
    IdDoesNotExist,
    NoRecordsMatch,
)

from catalog.models import CatalogChange, CatalogRevision, Dataset
from portal.web import oai
from tests.catalog.test_export import SHAPES
from tests.factories import make_bundle, make_dataset

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("own_state")]
DATACITE = "{http://datacite.org/schema/kernel-4}"
DAY = timedelta(days=1)
START = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def many(db, settings):  # noqa: ARG001
    """Seven datasets, changed a day after each other; an eighth was dropped on the third day."""
    settings.ALLOWED_HOSTS = ["*"]
    for number in range(7):
        make_dataset(f"set-{number}", name=f"Set {number} <&>", modalities=["CT"], year=2020)
        changed = START + number * DAY
        Dataset.objects.filter(slug=f"set-{number}").update(updated_at=changed)
    first = CatalogRevision.objects.create(number=1, digest="a" * 64, dataset_count=8)
    version = CatalogRevision.objects.create(number=2, digest="b" * 64, dataset_count=7)
    CatalogRevision.objects.filter(pk=first.pk).update(loaded_at=START - DAY)
    CatalogRevision.objects.filter(pk=version.pk).update(loaded_at=START + 2 * DAY + DAY / 2)
    CatalogChange.objects.create(revision=version, slug="dropped", name="Dropped", kind="gone")


@pytest.fixture
def client_of(live_server, monkeypatch):
    monkeypatch.setattr(oai, "PAGE", 3)
    return Sickle(f"{live_server.url}/oai/")


def slugs(records) -> list[str]:
    heads = [getattr(record, "header", record) for record in records]
    return [head.identifier.rpartition(":")[2] for head in heads]


@pytest.mark.django_db(transaction=True)
def test_a_real_client_harvests_every_record_page_by_page(client_of):
    records = list(client_of.ListRecords(metadataPrefix="oai_dc"))

    order = ["set-0", "set-1", "set-2", "dropped", "set-3", "set-4", "set-5", "set-6"]
    assert slugs(records) == order
    assert [record.deleted for record in records] == [slug == "dropped" for slug in order]
    assert records[0].metadata["title"] == ["Set 0 <&>"]
    assert records[0].metadata["date"] == ["2020"]
    assert "rights" not in records[0].metadata
    assert slugs(client_of.ListIdentifiers(metadataPrefix="oai_dc")) == order


@pytest.mark.django_db(transaction=True)
def test_only_what_changed_is_harvested_next_time(client_of):
    def found(**dates):
        return slugs(client_of.ListRecords(metadataPrefix="oai_dc", **dates))

    assert found(**{"from": "2026-01-06"}) == ["set-5", "set-6"]
    assert found(**{"from": "2026-01-03T12:00:01Z", "until": "2026-01-04T12:00:00Z"}) == [
        "dropped",
        "set-3",
    ]
    assert found(until="2026-01-01") == ["set-0"]  # the whole day
    assert len(found(**{"from": "2026-01-02"})) == 7
    assert len(found(set="curated")) == 7
    with pytest.raises(NoRecordsMatch):
        found(set="harvested")
    with pytest.raises(NoRecordsMatch):
        found(**{"from": "2026-02-01"})


@pytest.mark.django_db(transaction=True)
def test_one_record_and_what_the_repository_says_of_itself(client_of):
    about = client_of.Identify()
    assert about.repositoryName == "Imaging-X Portal"
    assert about.deletedRecord == "transient"
    assert about.earliestDatestamp == "2025-12-31T12:00:00Z"
    assert about.adminEmail.startswith("webmaster@")
    prefixes = [one.metadataPrefix for one in client_of.ListMetadataFormats()]
    assert prefixes == ["oai_dc", "oai_datacite"]
    assert [one.setSpec for one in client_of.ListSets()] == ["curated", "harvested"]

    (one,) = slugs([client_of.GetRecord(identifier="oai:localhost:set-1", metadataPrefix="oai_dc")])
    assert one == "set-1"
    gone = client_of.GetRecord(identifier="oai:localhost:dropped", metadataPrefix="oai_dc")
    assert gone.header.deleted


@pytest.mark.django_db(transaction=True)
def test_datacite_says_what_is_unknown(client_of):
    record = client_of.GetRecord(identifier="oai:localhost:set-1", metadataPrefix="oai_datacite")

    resource = record.xml.find(f".//{DATACITE}resource")
    texts = {
        name: resource.findtext(f".//{DATACITE}{name}")
        for name in ("title", "creatorName", "publisher", "publicationYear")
    }
    assert texts == {
        "title": "Set 1 <&>",
        "creatorName": ":unkn",
        "publisher": ":unkn",
        "publicationYear": "2020",
    }
    identifier = resource.find(f"{DATACITE}identifier")
    assert identifier.text.endswith("/datasets/set-1/")
    assert identifier.get("identifierType") == "URL"


@pytest.mark.django_db(transaction=True)
def test_wrong_requests_have_the_errors_of_the_protocol(client_of):
    with pytest.raises(IdDoesNotExist):
        client_of.GetRecord(identifier="oai:localhost:nothing", metadataPrefix="oai_dc")
    with pytest.raises(CannotDisseminateFormat):
        client_of.ListRecords(metadataPrefix="marc")
    for arguments in ({}, {"metadataPrefix": "oai_dc", "colour": "red"}):
        with pytest.raises(BadArgument):
            client_of.ListRecords(**arguments)
    for dates in ({"from": "yesterday"}, {"from": "2026-02-30"}, {"from": "2026-03-01"}):
        with pytest.raises(BadArgument):
            client_of.ListRecords(metadataPrefix="oai_dc", until="2026-02-01", **dates)
    for token in ("x", "e30=", "W3t9LCAzXQ==", "W251bGwsIDNd"):
        with pytest.raises(BadResumptionToken):
            client_of.ListRecords(resumptionToken=token)


def test_the_verb_is_checked_and_post_is_taken(client):
    def code(answer):
        root = ET.fromstring(answer.content)  # noqa: S314 - our own answer
        error = root.find("{*}error")
        return None if error is None else error.get("code")

    assert code(client.get("/oai/")) == "badVerb"
    assert code(client.get("/oai/?verb=Identify&verb=Identify")) == "badVerb"
    assert code(client.post("/oai/", {"verb": "Identify"})) is None
    assert code(client.get("/oai/?verb=Identify&metadataPrefix=oai_dc")) == "badArgument"
    answer = client.get("/oai/?verb=ListRecords&metadataPrefix=oai_dc").content
    assert b'verb="ListRecords"' in answer


def test_a_list_that_is_resumed_ends_where_it_began(client, monkeypatch):
    monkeypatch.setattr(oai, "PAGE", 5)
    first = ET.fromstring(  # noqa: S314
        client.get("/oai/?verb=ListIdentifiers&metadataPrefix=oai_dc").content
    )
    token = first.find(".//{*}resumptionToken")
    assert (token.get("completeListSize"), token.get("cursor")) == ("8", "0")
    later = datetime.now(tz=UTC) + DAY
    Dataset.objects.filter(slug="set-6").update(updated_at=later)

    rest = ET.fromstring(  # noqa: S314
        client.get("/oai/", {"verb": "ListIdentifiers", "resumptionToken": token.text}).content
    )

    found = [one.text.rpartition(":")[2] for one in rest.findall(".//{*}identifier")]
    assert found == ["set-4", "set-5"]
    assert rest.find(".//{*}resumptionToken").text is None


@pytest.mark.parametrize(
    ("asked", "headers", "media", "reads"),
    [
        ("", {}, "text/turtle", "turtle"),
        ("?format=json-ld", {}, "application/ld+json", "json-ld"),
        ("", {"Accept": "application/rdf+xml"}, "application/rdf+xml", "xml"),
    ],
)
def test_the_catalog_is_valid_dcat_under_our_addresses(client, asked, headers, media, reads):
    answer = client.get(f"/dcat/{asked}", headers=headers)

    assert answer["Content-Type"].startswith(media)
    graph = Graph().parse(data=answer.content, format=reads)
    found = {str(one) for one in graph.subjects(RDF.type, DCAT.Dataset)}
    assert found == {f"http://testserver/datasets/set-{number}" for number in range(7)}
    conforms, _, text = pyshacl.validate(graph, shacl_graph=str(SHAPES))
    assert conforms, text
    again = client.get(f"/dcat/{asked}", headers={**headers, "If-None-Match": answer["ETag"]})
    assert again.status_code == 304
    assert client.get("/dcat/?format=n3").status_code == 400


def test_the_sitemap_lists_every_dataset_and_public_bundles(client):
    public, private = make_bundle({"a": b"1"}, public=True), make_bundle({"b": b"2"}, public=False)
    index = ET.fromstring(client.get("/sitemap.xml").content)  # noqa: S314

    found = {}
    for place in index.findall(".//{*}loc"):
        part = ET.fromstring(client.get(place.text).content)  # noqa: S314
        for row in part.findall("{*}url"):
            found[row.findtext("{*}loc")] = row.findtext("{*}lastmod")

    assert found["http://testserver/datasets/set-3/"] == "2026-01-04"
    assert f"http://testserver/bundles/{public.pk}/" in found
    assert f"http://testserver/bundles/{private.pk}/" not in found
    assert all(client.get(address).status_code == 200 for address in found)


def test_robots_may_read_datasets_and_find_the_sitemap(client):
    lines = client.get("/robots.txt").content.decode().splitlines()
    robots = RobotFileParser()
    robots.parse(lines)

    assert robots.site_maps() == ["http://testserver/sitemap.xml"]
    assert robots.can_fetch("*", "http://testserver/datasets/stare/")
    assert robots.can_fetch("*", "http://testserver/")
    assert not robots.can_fetch("*", "http://testserver/account/")
    assert not robots.can_fetch("*", "http://testserver/runs/x/")


def test_a_browser_learns_how_to_search_here(client):
    home = client.get("/").content.decode()
    assert 'rel="search" type="application/opensearchdescription+xml"' in home

    answer = client.get("/opensearch.xml")
    assert answer["Content-Type"].startswith("application/opensearchdescription+xml")
    described = ET.fromstring(answer.content)  # noqa: S314
    urls = {one.get("type"): one.get("template") for one in described.findall("{*}Url")}
    page = urls["text/html"].replace("{searchTerms}", "lung+ct").replace("{startPage?}", "1")
    assert client.get(page).status_code == 200
    feed = urls["application/atom+xml"].replace("{searchTerms}", "lung+ct")
    assert client.get(feed)["Content-Type"].startswith("application/atom+xml")


def test_the_json_ld_of_a_page_is_croissant(client):

    page = client.get("/datasets/set-1/").content.decode()
    (block,) = re.findall(r'<script type="application/ld\+json">(.+?)</script>', page, re.DOTALL)
    data = json.loads(block)

    assert data["name"] == "Set 1 <&>"
    assert not mlcroissant.Dataset(jsonld=data).metadata.issues.errors
    graph = Graph().parse(data=block, format="json-ld")
    assert len(graph) > 10

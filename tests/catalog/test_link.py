"""Linkage and merge: what is one dataset, what only looks like it, and whose claims may change."""

from __future__ import annotations

import pytest

from catalog.claims import Claim
from catalog.importers.decisions import read_decisions, write_decisions
from catalog.importers.entry import Entry, ImportSourceError
from catalog.importers.link import Link, link, name_key, numbers, place
from catalog.importers.merge import merge
from catalog.record import Count, DatasetRecord
from catalog.record import Link as Address

SOURCE = "amid"


def record(slug, name, *, url=None, modality="CT", aliases=(), year=2019):
    return DatasetRecord.model_validate(
        {
            "slug": slug,
            "name": name,
            "aliases": list(aliases),
            "sources": [{"id": "project-imaging-x", "ref": name}],
            "links": [{"url": url, "source": "project-imaging-x"}] if url else [],
            "modalities": [{"value": [modality], "source": "project-imaging-x"}],
            "year": [
                {"value": year, "source": "curation", "reason": "paper"},
                {"value": year + 1, "source": "project-imaging-x"},
            ],
        }
    )


def entry(name, *, url=None, modality="CT", ref=None, **facts):
    claims = {"modalities": Claim(value=[modality], source=SOURCE), **facts}
    links = (Address(url=url, source=SOURCE),) if url else ()
    return Entry(SOURCE, ref or name, name, links=links, facts=claims)


def decide(one, *records, decided=None):
    found = link([one], {row.slug: row for row in records}, decided or {})
    return found[0].decision, found[0].slug


KITS = record("kits19", "KiTS19", url="https://kits19.grand-challenge.org/")


def test_one_name_and_one_modality_are_sure():
    assert decide(entry("KiTS 19"), KITS) == ("same", "kits19")
    assert decide(entry("kits-2019"), KITS)[0] != "same"


def test_one_address_without_the_name_waits_for_a_person():
    one = entry("Kidney tumours", url="http://www.kits19.grand-challenge.org/home/")

    assert (
        decide(one, record("kits", "Kits", url="https://kits19.grand-challenge.org"))[0] == "open"
    )


@pytest.mark.parametrize(
    ("name", "other"),
    [("BraTS 2018", "BraTS 2019"), ("DeepDR-Task1", "DeepDR-Task2"), ("VerSe'19", "VerSe'20")],
)
def test_versions_and_tasks_are_never_one_dataset(name, other):
    one = entry(other, url="https://a.example/data")

    assert decide(one, record("x", name, url="https://a.example/data"))[0] == "open"


def test_a_two_digit_year_is_a_year():
    assert numbers("BraTS18") == numbers("BraTS 2018") != numbers("BraTS19")


def test_one_name_for_two_modalities_waits_for_a_person():
    decision, slug = decide(entry("Spleen", modality="MR"), record("spleen", "Spleen"))

    assert (decision, slug) == ("open", "spleen")


def test_what_a_person_decided_and_what_a_record_lists_is_kept():
    decided = {(SOURCE, "Odd"): Link(SOURCE, "Odd", "Odd", "part", "kits19")}
    assert decide(entry("Odd"), KITS, decided=decided) == ("part", "kits19")

    listed = KITS.model_copy(
        update={"sources": DatasetRecord.model_validate(
            {"slug": "a", "name": "A", "sources": [{"id": SOURCE, "ref": "Any"}]}
        ).sources}
    )  # fmt: skip
    assert decide(entry("Wholly other", ref="Any"), listed) == ("same", "kits19")


def test_places_and_names_are_compared_without_their_trimmings():
    assert place("http://www.A.example/x/data/") == place("https://a.example/x")
    assert place("https://a.example/") is None
    assert place("https://zenodo.org/records/1") != place("https://zenodo.org/records/2")
    assert name_key("M&Ms-2") == "mms2"


def test_a_merge_replaces_the_sources_own_claims_and_no_others():
    first = entry("KiTS19", year=Claim(value=2018, source=SOURCE))
    later = entry("KiTS19", year=Claim(value=2017, source=SOURCE))

    merged = merge(merge(KITS, [(first, True)]), [(later, True)])

    assert [(c.value, c.source) for c in merged.year] == [
        (2019, "curation"),
        (2020, "project-imaging-x"),
        (2017, SOURCE),
    ]
    assert merge(merged, [(later, True)]) == merged


def test_a_part_takes_the_terms_of_the_whole_but_not_its_size():
    whole = Entry(
        SOURCE,
        "MSD",
        "MSD",
        facts={
            "licence": Claim(value="CC-BY-SA-4.0", source=SOURCE),
            "modalities": Claim(value=["CT", "MR"], source=SOURCE),
        },
        counts=(Count(number=2628, unit="volume", source=SOURCE),),
    )
    merged = merge(KITS, [(whole, False)])

    assert [claim.value for claim in merged.licence] == ["CC-BY-SA-4.0"]
    assert merged.counts == []
    assert [claim.value for claim in merged.modalities] == [["CT"]]


def test_decisions_are_read_as_they_were_written_and_a_slip_has_its_line(tmp_path):
    path = tmp_path / "links.csv"
    rows = [
        Link(SOURCE, "b", "B", "open", "kits19", 0.6, "same name"),
        Link(SOURCE, "a", "A, the first", "reject", None, 0.0, "no images"),
    ]
    write_decisions(rows, path)

    assert list(read_decisions(path).values()) == rows[::-1]

    path.write_text(path.read_text().replace("reject", "refuse"))
    with pytest.raises(ImportSourceError, match=r"links\.csv:2: decision: found 'refuse'"):
        read_decisions(path)
    path.write_text("source,ref,name,decision,slug,score,reason\namid,a,A,same,,1,\n")
    with pytest.raises(ImportSourceError, match=r"links\.csv:2: slug: found nothing"):
        read_decisions(path)

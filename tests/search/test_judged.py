"""The judged queries hold together, are counted rightly, and our search answers them well."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from catalog.search.engine import Engine
from tests.factories import make_facts
from tests.search.judging import (
    KINDS,
    Found,
    Judged,
    JudgementError,
    Score,
    holds,
    judge,
    means,
    ndcg,
    ranking,
    read_judged,
    read_rows,
    recall,
    reciprocal_rank,
    score,
)

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "search_eval.py"
LEAST_NDCG = 0.835  # 0.865 when the set was made
LEAST_NEGATIVE = 0.85


@pytest.fixture(scope="module")
def judged(shipped: dict[str, Any]) -> list[Judged]:
    return read_judged(shipped)


def test_every_kind_has_ten_queries_and_none_is_there_twice(judged: list[Judged]):
    kinds = Counter(row.kind for row in judged)

    assert len(judged) >= 90
    assert kinds.keys() == set(KINDS)
    assert min(kinds.values()) >= 10
    assert [
        query for query, count in Counter(row.query for row in judged).items() if count > 1
    ] == []


def test_every_query_means_something_or_says_that_nothing_is_meant(judged: list[Judged]):
    silent = [row.query for row in judged if not row.nothing and 3 not in row.grades.values()]

    assert silent == []
    assert [row.query for row in judged if row.nothing and row.grades] == []


def test_only_negative_queries_exclude_and_never_what_they_mean(judged: list[Judged]):
    negative = [row for row in judged if row.nothing or row.excluded]

    assert {row.kind for row in negative} == {"negative"}
    assert len(negative) == sum(row.kind == "negative" for row in judged)
    assert [row.query for row in negative if row.excluded & row.grades.keys()] == []


def row(**changes: Any) -> dict[str, Any]:
    return {"query": "q", "kind": "plain", "grade3": {"modality": "CT"}, **changes}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "odd"}, "q: kind: found 'odd'"),
        ({"grade4": {}}, "q: found 'grade4', expected add, excluded"),
        ({"grade3": {"modalty": "CT"}}, "q: found 'modalty', expected any, all, not, modality"),
        ({"grade3": {"modality": "Cat"}}, "q: modality: 'Cat' is no term"),
        ({"grade3": {"only_anatomy": ["Elbow grease"]}}, "q: anatomy: 'Elbow grease' is no term"),
        ({"grade3": {"modality": "MR", "not": {"task": "Cooking"}}}, "q: task: 'Cooking'"),
        ({"grade2": {"any": [{"licence": "CC-4"}]}}, "q: licence: 'CC-4' is none"),
        ({"grade2": {"count": "> many"}}, "q: count: found '> many', expected such as"),
        ({"grade2": {"count": ">5 cats"}}, "q: count: found '>5 cats', expected such as"),
        ({"grade2": {"year": "recent"}}, "q: year: found 'recent', expected such as"),
        ({"add": {"nowhere": 2}}, "q: found 'nowhere', which is no dataset"),
        ({"add": {"a-ct": 5}}, "q: add: a-ct: found 5, expected 1, 2 or 3"),
        ({"remove": ["nowhere"]}, "q: found 'nowhere', which is no dataset"),
        ({"nothing": {"modality": "CT"}}, "q: nothing: a-ct satisfy it by now"),
    ],
)
def test_a_faulty_judgement_is_refused_by_name(changes, message):
    facts = {"a-ct": make_facts("a-ct", modalities=["CT"])}

    with pytest.raises(JudgementError) as error:
        judge(row(**changes), facts)

    assert str(error.value).startswith(message)


def test_the_highest_grade_holds_and_named_datasets_override_it():
    catalog = {
        slug: make_facts(slug, modalities=modalities, anatomies=["Liver"])
        for slug, modalities in (("a", ["CT"]), ("b", ["CBCT"]), ("c", ["MR"]), ("d", ["CT"]))
    }
    tests = {
        "grade3": {"modality": "CT", "not": {"modality": "CBCT"}},
        "grade2": {"modality": "CT"},
    }

    found = judge(row(**tests, grade1={"anatomy": "Abdomen"}, remove=["d"]), catalog)
    named = judge(row(**tests, add={"c": 2, "a": 1}), catalog)

    assert found.grades == {"a": 3, "b": 2, "c": 1}
    assert found.relevant == {"a", "b"}
    assert named.grades == {"a": 1, "b": 2, "c": 2, "d": 3}


FACTS = make_facts(
    "mixed",
    name="Mixed Set 2",
    aliases=["Méchant"],
    modalities=["MR", "CBCT"],
    anatomies=["Liver", "Spleen"],
    classes=["Liver tumour", "portal vein"],
    licence="CC-BY-SA-4.0",
    access="open",
    year=2020,
    family="Sets",
    links=[{"url": "https://www.kaggle.com/x", "source": "curation"}],
    counts=[
        {"number": 50, "unit": "volume", "source": "curation"},
        {"number": 30, "unit": "image", "split": "train", "source": "curation"},
        {"number": 40, "unit": "image", "split": "test", "source": "curation"},
    ],
)


@pytest.mark.parametrize(
    "test",
    [
        {"modality": "CT"},
        {"modality": ["PET", "MR"], "anatomy": "Abdomen"},
        {"only_anatomy": "Abdomen"},
        {"only_anatomy": ["Liver", "Spleen"]},
        {"all": [{"anatomy": "Liver"}, {"anatomy": "Spleen"}]},
        {"any": [{"task": "Segmentation"}, {"access": "open"}]},
        {"licence": "permissive"},
        {"licence": ["MIT", "CC-BY-SA-4.0"]},
        {"count": ">=50 volume"},
        {"count": ">60"},
        {"year": 2020},
        {"year": "2019-2021"},
        {"year": "<2021"},
        {"name": "mechant|other"},
        {"words": "tumo"},
        {"host": "kaggle.com"},
        {"family": "Sets", "slug": "mixed"},
    ],
    ids=str,
)
def test_what_holds_of_a_dataset(test):
    assert holds(test, FACTS)
    assert not holds({"not": test}, FACTS)


@pytest.mark.parametrize(
    "test",
    [
        {"modality": "PET"},
        {"modality": "MR", "anatomy": "Brain"},
        {"only_anatomy": "Liver"},
        {"only_task": "Segmentation"},
        {"task": "Segmentation"},
        {"licence": "unknown"},
        {"count": ">50 volume"},
        {"count": ">70"},
        {"year": ">2020"},
        {"name": "echant"},
        {"name": "tumo"},
        {"host": "gle.com"},
        {"labelled": True},
    ],
    ids=str,
)
def test_what_does_not_hold_of_a_dataset(test):
    assert not holds(test, FACTS)


def test_the_figures_are_those_computed_by_hand():
    grades = {"a": 3, "b": 2, "c": 1, "d": 2}
    found = ("x", "b", "a", "c")
    # gain of found: 2 / log2 3 + 3 / log2 4 + 1 / log2 5; best: 3, 2, 2, 1 in that order
    ours = 2 / 1.5849625 + 3 / 2 + 1 / 2.3219281
    best = 3 + 2 / 1.5849625 + 2 / 2 + 1 / 2.3219281

    assert ndcg(found, grades) == pytest.approx(ours / best)
    assert ndcg(found, grades, depth=2) == pytest.approx(1.2618595 / 4.2618595)
    assert ndcg(("a", "b", "d", "c"), grades) == 1.0
    assert recall(found, frozenset("abd")) == pytest.approx(2 / 3)
    assert recall(found, frozenset("abd"), depth=2) == pytest.approx(1 / 2)
    assert reciprocal_rank(found, frozenset("abd")) == pytest.approx(1 / 2)
    assert reciprocal_rank(("x", "y"), frozenset("abd")) == 0.0


def test_strict_results_count_before_near_ones_and_only_a_page_is_seen():
    found = Found(tuple(f"x{n}" for n in range(3)), ("a",))
    query = Judged("q", "plain", {"a": 3})

    assert score(query, found).reciprocal_rank == pytest.approx(1 / 4)
    assert score(query, Found(tuple(f"x{n}" for n in range(20)), ("a",))).recall == 0.0


def test_a_negative_query_fails_by_one_excluded_strict_result():
    query = Judged("q", "negative", {"a": 3}, excluded=frozenset({"bad"}))
    nothing = Judged("q", "negative", nothing=True)

    assert score(query, Found(("a",), ("bad",))).negative == 1.0
    assert score(query, Found(("a", "bad"))) == Score(1.0, 1.0, 1.0, 0.0)
    assert score(nothing, Found((), ("a",))) == Score(negative=1.0)
    assert score(nothing, Found(("a",))) == Score(negative=0.0)


def test_a_mean_leaves_out_queries_without_the_figure():
    found = means([Score(ndcg=1.0), Score(ndcg=0.5, negative=1.0), Score(negative=0.0)])

    assert found == {"ndcg": 0.75, "recall": None, "reciprocal_rank": None, "negative": 0.5}


def test_our_search_answers_the_judged_queries(judged: list[Judged], real: Engine):
    ask = ranking(real)

    found = means(score(query, ask(query.query)) for query in judged)

    assert found["ndcg"] is not None
    assert found["ndcg"] >= LEAST_NDCG
    assert found["negative"] is not None
    assert found["negative"] >= LEAST_NEGATIVE


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("search_eval", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_peers_find_words_as_they_are_and_synonyms_when_told(script: ModuleType):
    catalog = {
        "one": make_facts("one", name="Kidney set", modalities=["MR"]),
        "two": make_facts("two", name="Something else", modalities=["CT"]),
    }

    assert script.bm25(catalog)("kidney, please!").strict == ("one",)
    assert script.bm25(catalog)("computed tomography").strict == ()
    assert script.bm25(catalog, synonyms=True)("computed tomography").strict == ("two",)


def test_the_scoring_command_prints_and_writes_every_engine(
    script: ModuleType, shipped, monkeypatch, capsys, tmp_path
):
    wanted = tmp_path / "figures.json"
    arguments = ["--kind", "facet", "--failures", "2", "--json", str(wanted)]
    monkeypatch.setattr(sys, "argv", ["search_eval.py", *arguments])
    monkeypatch.setattr(script, "read_catalog", lambda: shipped)
    monkeypatch.delenv("IMAGINGX_TEST_SEARCH_URL", raising=False)

    script.main()

    facets = [row["query"] for row in read_rows() if row["kind"] == "facet"]
    figures = json.loads(wanted.read_text())
    assert list(figures) == ["embedded", "BM25", "BM25 + synonyms"]
    for engine in figures.values():
        assert [one["query"] for one in engine["queries"]] == facets
        assert engine["kinds"]["facet"] == engine["kinds"]["overall"]
    assert (
        figures["embedded"]["kinds"]["overall"]["ndcg"] > figures["BM25"]["kinds"]["facet"]["ndcg"]
    )
    printed = capsys.readouterr().out
    assert "nDCG@10" in printed
    assert printed.count("    found    ") == 2

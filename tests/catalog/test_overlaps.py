"""Overlaps: what is certain, likely and possible, and what a common descendant means: nothing."""

from __future__ import annotations

from catalog.overlaps import OverlapGraph


def rel(to, kind="superset", trust="read"):
    return {"to": to, "kind": kind, "trust": trust, "evidence": f"about {to}"}


def test_a_relation_is_certain_a_chain_likely_and_a_cited_relation_likely():
    graph = OverlapGraph(
        {"c": [rel("b")], "b": [rel("a")], "d": [rel("a", trust="cited")], "a": []}
    )

    assert graph.between("b", "a").certainty == "certain"
    found = graph.between("a", "c")
    assert (found.certainty, found.path) == ("likely", ("c", "b", "a"))
    assert found.evidence == "about b; about a"
    assert graph.between("d", "a").certainty == "likely"


def test_siblings_are_possible_and_a_common_descendant_says_nothing():
    graph = OverlapGraph({"x": [rel("a")], "y": [rel("a")], "big": [rel("p"), rel("q")]})

    found = graph.between("x", "y")
    assert (found.certainty, found.path) == ("possible", ("x", "a", "y"))
    assert graph.between("p", "q") is None


def test_siblings_of_an_archive_are_strangers():
    graph = OverlapGraph({"x": [rel("openneuro", "subset")], "y": [rel("openneuro", "subset")]})

    assert graph.between("x", "y") is None
    assert graph.between("x", "openneuro").certainty == "certain"


def test_shared_people_count_both_ways_and_families_do_not():
    graph = OverlapGraph({"x": [rel("y", "shared_patients"), rel("z", "version_of")]})

    assert graph.between("y", "x").kind == "shared_patients"
    assert graph.between("x", "z") is None

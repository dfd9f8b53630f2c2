"""A rule file as a search: on each engine every dataset that the rules keep is a strict result."""

from __future__ import annotations

from typing import Any

import pytest

from catalog.rule_selection import search_params, select
from catalog.rules import Rules, check_rules
from catalog.search.engine import Engine, search
from catalog.search.query import MAX_LIMIT, Query


def strict(rules: Rules, engine: Engine) -> set[str]:
    """Every result of the rules' search, whatever the number of pages."""
    params: dict[str, Any] = {}
    for name, value in search_params(rules)[0]:
        params.setdefault(name, []).append(value)
    query = Query.from_params({**params, "limit": str(MAX_LIMIT)})
    first = search(query, using=engine)
    found = {hit.slug for hit in first.hits}
    for page in range(2, -(-first.total // MAX_LIMIT) + 1):
        found |= {hit.slug for hit in search(query.replace(page=page), using=engine).hits}
    assert len(found) == first.total
    return found


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"dimension": "3D", "include_mixed": True, "modalities": ["CT", "MR"], "task_types": []},
        {"modalities": ["X-ray"], "license_allowlist": ["CC BY 4.0", "CC0"]},
        {"modalities": [], "anatomy_whitelist": ["abdomen", "eye"], "include_unlabeled": False},
        {"allow_3d_as_2d_sources": True, "release_date_min": "2020", "task_types": ["seg"]},
        {"modalities": ["histopathology"], "selection": {"enable": True}},
    ],
)
def test_what_rules_keep_is_found_by_their_search_and_they_keep_the_same_of_it(
    real: Engine, shipped, data
):
    rules = check_rules(data)

    found = strict(rules, real)

    kept = {row.slug for row in select(shipped.values(), rules).kept}
    assert kept
    assert kept <= found
    assert {row.slug for row in select([shipped[slug] for slug in found], rules).kept} == kept

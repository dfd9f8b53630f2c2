"""Figures over the catalog: what there is, and where data are missing."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe

from catalog.audit import CODES, audit, totals
from catalog.models import Dataset
from catalog.statistics import FACETS, Figure, Matrix, coverage, figures, matrices

ROWS_SHOWN = 15
ACROSS_SHOWN = 14
SEARCHABLE = {*FACETS, "access", "licence"}


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """Bars and matrices; each value leads to the datasets behind it."""
    facts = list(Dataset.objects.facts())
    found = totals(audit(facts))
    context = {
        "total": len(facts),
        "coverage": _bars(coverage(facts), whole=len(facts)),
        "figures": [_bars(figure) for figure in figures(facts)],
        "matrices": [grid(matrix) for matrix in matrices(facts)],
        "findings": [(CODES[code], code, number) for code, number in found.items()],
    }
    return render(request, "statistics.html", context)


def _bars(figure: Figure, whole: int | None = None) -> dict[str, Any]:
    """A figure with the length of each bar in per cent of the longest, or of `whole`."""
    ordered = figure.rows if figure.name in {"year", "coverage"} else figure.rows[:ROWS_SHOWN]
    longest = whole or max((number for _, number in ordered), default=1)
    rows = [
        {
            "value": value,
            "number": number,
            "width": max(round(100 * number / max(longest, 1), 1), 0.3 if number else 0),
            "share": f"{number / figure.of:.1%}" if figure.of and figure.name != "images" else "",
            "url": _search(figure.name, value),
        }
        for value, number in ordered
    ]
    return {
        "name": figure.name,
        "title": figure.title,
        "rule": figure.rule,
        "of": figure.of,
        "rows": rows,
        "more": len(figure.rows) - len(rows),
    }


def grid(matrix: Matrix, tone: Callable[[float], float] = float) -> dict[str, Any]:
    """A matrix whose shades are the share of its fullest cell, in steps of ten.

    `tone` is applied to a number before it is compared, as a logarithm for uneven ones.
    """
    down, across = matrix.name.split("-")
    full = tone(max((cell for line in matrix.cells for cell in line), default=1))
    lines = [
        {
            "value": value,
            "cells": [
                {
                    "number": number,
                    "shade": math.ceil(10 * min(tone(number) / full, 1)) if number else 0,
                    "url": _question({down: value, across: other}),
                }
                for other, number in zip(matrix.across[:ACROSS_SHOWN], line, strict=False)
            ],
        }
        for value, line in zip(matrix.down[:ROWS_SHOWN], matrix.cells, strict=False)
    ]
    return {
        "name": matrix.name,
        "title": matrix.title,
        "rule": matrix.rule,
        "of": matrix.of,
        "across": matrix.across[:ACROSS_SHOWN],
        "lines": lines,
    }


def _search(name: str, value: str) -> str:
    return _question({name: value}) if name in SEARCHABLE or name == "year" else ""


def _question(values: dict[str, str]) -> str:
    return f"{reverse('datasets')}?{urlencode(values)}"

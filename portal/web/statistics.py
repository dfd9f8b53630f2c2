"""Figures over the catalog: what there is, and where data are missing."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe

from catalog.audit import CODES, audit, totals
from catalog.models import Dataset
from catalog.statistics import Figure, Matrix, coverage, figures, matrices
from portal.figures import ACROSS_SHOWN, ROWS_SHOWN, Mark, bars, lines, unit_of
from portal.web.dataset import FIELD_TITLES


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """Bars and matrices; each mark leads to the datasets behind it."""
    facts = list(Dataset.objects.facts())
    found = totals(audit(facts))
    context = {
        "total": len(facts),
        "coverage": _bars(coverage(facts)),
        "figures": [_bars(figure) for figure in figures(facts)],
        "matrices": [grid(matrix) for matrix in matrices(facts)],
        "findings": [(CODES[code], code, number) for code, number in found.items()],
    }
    return render(request, "statistics.html", context)


def _bars(figure: Figure) -> dict[str, Any]:
    """A figure with the length of each bar in per cent."""
    marks = bars(figure, ROWS_SHOWN)
    titles = {**FIELD_TITLES, "homepage": "Address"} if figure.name == "coverage" else {}
    has_shares = figure.of and figure.name != "images"
    return {
        "name": figure.name,
        "title": figure.title,
        "rule": figure.rule,
        "of": figure.of,
        "unit": unit_of(figure),
        "rows": [
            {
                "mark": mark,
                "title": titles.get(mark.value, mark.value),
                "width": max(round(100 * mark.share, 1), 0.3 if mark.number else 0),
                "share": f"{mark.number / figure.of:.1%}" if has_shares else "",
                "url": _search(mark),
            }
            for mark in marks
        ],
        "more": len(figure.rows) - len(marks),
    }


def grid(matrix: Matrix, tone: Callable[[float], float] = float) -> dict[str, Any]:
    """A matrix whose shades are the share of its fullest cell, in steps of ten."""
    return {
        "name": matrix.name,
        "title": matrix.title,
        "rule": matrix.rule,
        "of": matrix.of,
        "across": matrix.across[:ACROSS_SHOWN],
        "lines": [
            {
                "value": line.value,
                "cells": [
                    {
                        "number": mark.number,
                        "across": mark.value,
                        "shade": math.ceil(10 * mark.share),
                        "url": _search(mark),
                    }
                    for mark in line.marks
                ],
            }
            for line in lines(matrix, tone, ROWS_SHOWN, ACROSS_SHOWN)
        ],
    }


def _search(mark: Mark) -> str:
    return f"{reverse('datasets')}?{mark.question}" if mark.question else ""

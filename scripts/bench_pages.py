#!/usr/bin/env python
"""Time the search page beside the bare search call, and weigh it with its styles and scripts.

    scripts/bench_pages.py [--rounds R]

On the shipped catalog in a database of its own, in process, through Django's test client: the
ratio is what templates, rows and addresses cost on top of the search. `make bench` runs it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent), str(Path(__file__).resolve().parent)]
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")

QUESTIONS = ("", "brain MR segmentation", "retinal vessels", "tuberculosis chest x-ray", "liver CT",
             "covid-19 ct", "skin lesion", "kits19")  # fmt: skip
RATIO, QUERIES, BYTES = 4.0, 12, 60_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=15, metavar="R")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as state:
        os.environ["IMAGINGX_STATE_DIR"] = state
        run(options.rounds)


def run(rounds: int) -> None:
    import django

    django.setup()
    from benchlib import in_turn, medians, targets
    from django.core.management import call_command
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    from catalog.search import Query, search
    from tests.web.weight import weight

    call_command("migrate", verbosity=0)
    call_command("load_catalog", verbosity=0)
    client = Client(SERVER_NAME="127.0.0.1")
    ratios, sizes, queries = [], [], []
    print(f"{'question':<28} {'search ms':>10} {'page ms':>9} {'ratio':>6} {'kB':>6} {'SQL':>4}")
    for text in QUESTIONS:
        page = partial(client.get, "/datasets/", {"q": text})
        answer = page()
        with CaptureQueriesContext(connection) as asked:
            page()
        queries.append(len(asked))  # the next request empties the log
        call = partial(search, Query(text=text))
        spent = medians(in_turn({"search": call, "page": page}, rounds))
        ratios.append(spent["page"] / spent["search"])
        sizes.append(weight(answer.content.decode()))
        print(f"{text or '(all)':<28} {spent['search'] * 1e3:>10.1f} {spent['page'] * 1e3:>9.1f} "
              f"{ratios[-1]:>6.1f} {sizes[-1] / 1e3:>6.1f} {queries[-1]:>4}")  # fmt: skip
    targets(
        [
            (f"{RATIO:.0f} / (page / search), median", RATIO / statistics.median(ratios), 1),
            (f"{BYTES:,} bytes / heaviest page, gzipped", BYTES / max(sizes), 1),
            (f"{QUERIES} SQL queries / most of a page", QUERIES / max(queries), 1),
        ]
    )


if __name__ == "__main__":
    main()

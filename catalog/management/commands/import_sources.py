"""Bring the claims of metadata sources into the curated record files."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from catalog.importers import benchmarks, decisions, imaging_x, lists, openmedlab
from catalog.importers.entry import Entry, ImportSourceError
from catalog.importers.link import Link, link, slug_of, with_source
from catalog.importers.merge import merge
from catalog.record import DatasetRecord, SourceRef
from catalog.records_io import FOLDER, RecordError, read_folder, write_folder

PARSERS: Mapping[str, Callable[[Path], Iterator[Entry]]] = MappingProxyType(
    {
        "project-imaging-x": imaging_x.entries,
        "medmnist": benchmarks.medmnist,
        "medsegbench": benchmarks.medsegbench,
        "aws": lists.aws,
        "amid": lists.amid,
        "eva": lists.eva,
        "torch_em": lists.torch_em,
        "maduc7": lists.maduc7,
        "linhandev": lists.linhandev,
        "surgical": lists.surgical,
        "openmedlab": openmedlab.entries,
        "mmsegmentation": lists.mmsegmentation,
    }
)
SHOWN = 20


class Command(BaseCommand):
    help = (
        "Replace the claims of each source in the records that it lists. Links that are not sure "
        "go to the review queue (links.csv); curators' claims are never touched."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("folder", type=Path, help="folder with one folder per source")
        parser.add_argument("--source", action="append", choices=list(PARSERS))
        parser.add_argument("--records", type=Path, default=FOLDER, help="folder of record files")
        parser.add_argument(
            "--links", type=Path, default=decisions.FILE, help="decisions and review queue"
        )
        parser.add_argument("--dry-run", action="store_true", help="report, write nothing")

    def handle(self, *_args: Any, **options: Any) -> None:
        try:
            records = read_folder(options["records"])
            decided = decisions.read_decisions(options["links"])
            queue: list[Link] = []
            for source in options["source"] or PARSERS:
                entries = list(PARSERS[source](options["folder"]))
                links = link(entries, records, decided)
                records = apply(records, entries, links)
                queue += [row for row in links if row.decision == "open"]
                counted = Counter(row.decision for row in links)
                said = ", ".join(f"{number} {what}" for what, number in sorted(counted.items()))
                self.stdout.write(f"{source}: {len(entries)} entries: {said}")
        except (ImportSourceError, RecordError) as error:
            raise CommandError(str(error)) from error
        self._report(queue)
        if options["dry_run"]:
            self.stdout.write("dry run: nothing written")
            return
        written = write_folder(records.values(), options["records"])
        known = {**decided, **{(row.source, row.ref): row for row in queue}}
        decisions.write_decisions(known.values(), options["links"])
        self.stdout.write(
            f"{len(records)} records: {written.created} created, {written.changed} changed, "
            f"{written.unchanged} unchanged"
        )

    def _report(self, queue: list[Link]) -> None:
        if not queue:
            self.stdout.write("review queue: empty")
            return
        self.stdout.write(f"review queue: {len(queue)} links wait for a person, the closest first")
        for row in sorted(queue, key=lambda row: -row.score)[:SHOWN]:
            like = f"like {row.slug} ({row.score:g}: {row.reason})" if row.slug else row.reason
            self.stdout.write(f"  {row.source} {row.ref}: {row.name}: {like}")


def apply(
    records: Mapping[str, DatasetRecord], entries: list[Entry], links: list[Link]
) -> dict[str, DatasetRecord]:
    """The records with the entries' claims; entries decided as new become records."""
    found = dict(records)
    by_slug: dict[str, list[tuple[Entry, bool]]] = defaultdict(list)
    for entry, row in zip(entries, links, strict=True):
        slug = row.slug
        if row.decision == "new":
            slug = slug or slug_of(entry.name)
            if slug not in found:
                ref = SourceRef(id=entry.source, ref=entry.ref)
                found[slug] = DatasetRecord(slug=slug, name=entry.name, sources=[ref])
        if row.decision not in {"same", "part", "new"} or slug is None:
            continue
        if slug not in found:
            message = (
                f"links.csv: {entry.source} {entry.ref}: found slug {slug!r}, which is no record"
            )
            raise ImportSourceError(message)
        whole = row.decision != "part"
        found[slug] = with_source(found[slug], entry.source, entry.ref, whole=whole)
        by_slug[slug].append((entry, whole))
    for slug, linked in by_slug.items():
        found[slug] = merge(found[slug], linked)
    return dict(sorted(found.items()))

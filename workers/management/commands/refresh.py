"""Harvest sources of the catalog where they live, and see what came of it."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from catalog.changes import NEW, cell_text, terms_text
from catalog.models import Harvest, HarvestChange
from workers.refresh import UPSTREAMS, harvest, next_at


class Command(BaseCommand):
    help = "Harvest sources now. Without a source: list the last harvest of each, and the next."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("source", nargs="*", metavar="SOURCE", help=", ".join(UPSTREAMS))
        parser.add_argument("--again", action="store_true", help="read what is as it was, too")
        parser.add_argument("--show", type=int, metavar="ID", help="what a harvest found")

    def handle(self, *_args: Any, **options: Any) -> None:
        if options["show"] is not None:
            self._show(options["show"])
        elif not options["source"]:
            self._list()
        if unknown := sorted(set(options["source"]) - set(UPSTREAMS)):
            expected = ", ".join(UPSTREAMS)
            raise CommandError(f"SOURCE: found {unknown[0]!r}, expected some of {expected}")
        for source in options["source"]:
            row = harvest(source, again=options["again"])
            if row is None:
                raise CommandError(f"{source}: another process harvests it")
            self.stdout.write(line(row))
            if row.state == Harvest.State.FAILED:
                raise CommandError(f"{source}: {row.error}")

    def _list(self) -> None:
        for source in UPSTREAMS:
            last = Harvest.objects.filter(source=source).first()
            moment = next_at(source)
            self.stdout.write(line(last) if last else f"{source}: never harvested")
            self.stdout.write(f"  next: {f'{moment:%Y-%m-%d %H:%M}' if moment else 'by hand'}")

    def _show(self, number: int) -> None:
        row = Harvest.objects.filter(pk=number).first()
        if row is None:
            raise CommandError(f"--show: found {number}, expected the number of a harvest")
        self.stdout.write(line(row))
        if row.error:
            self.stdout.write(row.error)
        for change in row.changes.all():
            self.stdout.write(f"  {change_line(change)}")


def line(row: Harvest) -> str:
    """One harvest in words."""
    return (
        f"{row.pk} {row.source} {row.started_at:%Y-%m-%d %H:%M} {row.state}: "
        f"{row.entry_count} entries, {row.new_count} new, {row.changed_count} changed, "
        f"{row.gone_count} gone, {row.failed_count} failed, {row.waiting_count} changes wait"
    )


def change_line(change: HarvestChange) -> str:
    """One change in words, with the old and the new value."""
    text = f"{change.state} {change.kind} {change.ref} ({change.name})"
    if not change.field:
        return "; ".join([text, *(terms_text(change.after) if change.kind == NEW else ())])
    before, after = (cell_text(one, change.field) for one in (change.before, change.after))
    return f"{text}: {change.field}: {before or 'nothing'} -> {after or 'nothing'}"

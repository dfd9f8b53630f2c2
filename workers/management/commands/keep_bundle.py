"""Pin bundles, so that no retention rule removes them; or let them go, or remove them now."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from fusion.models import Bundle
from workers.tidy import remove_bundle


class Command(BaseCommand):
    help = "Pin bundles against the retention rules, unpin them, or remove them with a reason."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=["pin", "unpin", "remove"])
        parser.add_argument("bundles", nargs="+", help="ids, or their first letters")
        parser.add_argument("--why", default="", help="the reason that is shown, for remove")

    def handle(self, **options: Any) -> None:
        action, why = options["action"], options["why"]
        if (action == "remove") != bool(why):
            raise CommandError("--why: expected with the action remove, and with no other")
        for start in options["bundles"]:
            bundle = self._find(start)
            if action == "remove":
                if bundle.pinned:
                    raise CommandError(f"{bundle.pk}: it is pinned")
                remove_bundle(bundle, why)
            else:
                Bundle.objects.filter(pk=bundle.pk).update(pinned=action == "pin")
            self.stdout.write(f"{bundle.pk}: {action} done")

    def _find(self, start: str) -> Bundle:
        found = list(Bundle.objects.kept().filter(pk__startswith=start)[:2])
        if len(found) != 1:
            raise CommandError(f"{start}: found {len(found)} bundles or more, expected one")
        return found[0]

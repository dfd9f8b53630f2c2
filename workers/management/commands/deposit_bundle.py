"""Send a bundle to the Hugging Face Hub, Zenodo or S3; without --send: say what would be sent."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from fusion.deposits import PLACES, refusals, send, what_is_sent
from fusion.errors import BuildError
from fusion.models import Bundle
from fusion.sources import configured_rules
from workers.deposits import parcel_of


class Command(BaseCommand):
    help = __doc__ or ""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("bundle", help="its id, or how that begins")
        parser.add_argument("place", choices=list(PLACES))
        parser.add_argument("target", nargs="?", default="", help="account/name or bucket/prefix")
        parser.add_argument("--creator", default="Imaging-X Portal", help="who is named on Zenodo")
        parser.add_argument("--public", action="store_true", help="on the Hub, at once")
        parser.add_argument("--draft", default="", help="number of a Zenodo draft to go on with")
        parser.add_argument("--send", action="store_true", help="with the environment's credential")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Print JSON: the dry run, or where it is now."""
        rows = Bundle.objects.kept().filter(pk__startswith=options["bundle"])[:2]
        if len(rows) != 1:
            raise CommandError(f"found {len(rows)} bundles of that id, expected one")
        bundle, place, target = rows[0], options["place"], options["target"]
        if reasons := refusals(bundle.build, bundle.summary):
            raise CommandError("\n".join(reasons))
        parcel = parcel_of(bundle, options["creator"])
        try:
            shown = what_is_sent(parcel, place, target)
            if options["send"]:
                sent = send(
                    parcel, place, target, configured_rules(), lambda _: None,
                    remote=options["draft"], private=not options["public"],
                    begun=lambda remote: self.stderr.write(f"draft {remote}"),
                )  # fmt: skip
                shown |= {"url": sent.url, "doi": sent.doi}
        except BuildError as error:
            raise CommandError(f"{error.code}: {error}") from error
        self.stdout.write(json.dumps(shown, indent=1, ensure_ascii=False))

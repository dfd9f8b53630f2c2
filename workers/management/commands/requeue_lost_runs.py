"""Send new messages for runs whose message or worker was lost."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from workers.chunks import requeue_lost_chunks
from workers.submit import requeue_lost_runs


class Command(BaseCommand):
    help = "Requeue runs whose message or worker was lost (every worker does this by itself)."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--all", action="store_true", help="also those queued just now")

    def handle(self, **options: Any) -> None:
        patience = 0 if options["all"] else None
        runs, chunks = requeue_lost_runs(patience), requeue_lost_chunks(patience)
        self.stdout.write(f"{runs} runs requeued, {chunks} chunks")

"""Run a worker in the foreground, with the right options."""

from __future__ import annotations

import os
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections

from workers.process import QUEUES, worker_command, worker_environment


class Command(BaseCommand):
    help = "Run a worker in the foreground; it requeues lost runs when it starts."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--queues", default=",".join(QUEUES), help="comma list of cpu, gpu, io")
        parser.add_argument("--concurrency", type=int, default=1, help="stages or chunks at a time")

    def handle(self, **options: Any) -> None:
        queues = [queue.strip() for queue in options["queues"].split(",")]
        if unknown := sorted(set(queues) - set(QUEUES)):
            raise CommandError(
                f"--queues: found {', '.join(unknown)}, expected some of {', '.join(QUEUES)}"
            )
        if options["concurrency"] < 1:
            raise CommandError(f"--concurrency: found {options['concurrency']}, expected >= 1")
        connections.close_all()
        command = worker_command(",".join(queues), options["concurrency"])
        # A new image of this process: glibc reads its settings only at the start.
        os.execve(command[0], command, worker_environment())  # noqa: S606

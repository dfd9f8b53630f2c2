"""Pause, resume, retry or cancel runs, or give them another priority."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser

from workers.models import Run
from workers.submit import (
    RunConflictError,
    cancel_run,
    pause_run,
    resume_run,
    retry_run,
    set_priority,
)

ACTIONS = {"pause": pause_run, "resume": resume_run, "retry": retry_run, "cancel": cancel_run}


class Command(BaseCommand):
    help = "Pause, resume, retry or cancel runs, or give them another priority."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=[*ACTIONS, "priority"])
        parser.add_argument("runs", nargs="+", type=UUID)
        parser.add_argument("--to", choices=[name.lower() for name in Run.Priority.names])

    def handle(self, **options: Any) -> None:
        action, to = options["action"], options["to"]
        if (action == "priority") != bool(to):
            raise CommandError("--to: expected with the action priority, and with no other")
        for pk in options["runs"]:
            run = Run.objects.filter(pk=pk).first()
            if run is None:
                raise CommandError(f"{pk}: no such run")
            try:
                run = set_priority(run, Run.Priority[to.upper()]) if to else ACTIONS[action](run)
            except RunConflictError as error:
                raise CommandError(str(error)) from error
            self.stdout.write(f"{run.pk}: {run.state}, {run.get_priority_display().lower()}")

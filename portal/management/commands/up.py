"""The portal and its worker in the foreground: `make up`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections

from portal.settings import env
from portal.stores import prepare
from portal.supervise import Child, PortInUseError, check_port, run_together
from workers.process import beat_command, worker_command, worker_environment


class Command(BaseCommand):
    help = "Run the portal and a worker in the foreground; Ctrl-C stops both."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default=env.text("HOST"), help="address to listen on")
        parser.add_argument("--port", type=int, default=env.integer("PORT"))
        parser.add_argument("--no-worker", action="store_true", help="the web server only")

    def handle(self, **options: Any) -> None:
        host, port = options["host"], options["port"]
        try:
            check_port(host, port)
        except PortInUseError as error:
            raise CommandError(str(error)) from error
        prepare(self._say)
        Path(settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)
        connections.close_all()
        children = [Child("web server", _web_command(host, port), os.environ)]
        if not options["no_worker"]:
            children.append(Child("worker", worker_command(), worker_environment()))
            if settings.REFRESH:
                children.append(Child("beat", beat_command(), os.environ))
        shown = f"[{host}]" if ":" in host else host
        self._say(f"portal: http://{shown}:{port}/ (Ctrl-C stops it)")
        died = run_together(children)
        if died is not None:
            child, code = died
            raise CommandError(f"the {child.name} ended with exit code {code}; all stopped")
        self._say("portal: stopped")

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()


def _web_command(host: str, port: int) -> list[str]:
    bind = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return [
        *(sys.executable, "-m", "gunicorn", "portal.wsgi:application", "--bind", bind),
        *("--worker-class", "gthread", "--workers", "2", "--threads", "8"),
        *("--graceful-timeout", "3", "--timeout", "120", "--no-control-socket"),
        *("--worker-tmp-dir", _memory_folder(), "--log-level", "warning"),
    ]


def _memory_folder() -> str:
    """Heartbeat files belong in memory, where there is such a folder."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else str(settings.STATE_DIR)  # noqa: S108

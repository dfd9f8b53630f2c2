"""The whole way once, on the sample: `make demo`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.files.storage import FileSystemStorage, storages
from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from fusion.bundle.verify import verify_bundle
from fusion.models import Bundle
from fusion.recipe_files import example_recipes, load_recipe
from portal.stores import prepare
from portal.summary import summary_lines
from portal.supervise import Child, stop, stopping_signals
from workers.models import Run, RunStage
from workers.process import worker_command, worker_environment
from workers.submit import submit_run

RECIPE = "hippocampus-sample"
LOG_NAME = "demo-worker.log"


class Command(BaseCommand):
    help = "Load the catalog, fuse the sample with a real worker, verify the bundle, show it."

    def handle(self, **_options: Any) -> None:
        prepare(self._say)
        run = submit_run(load_recipe(example_recipes()[RECIPE]))
        if run.state == Run.State.SUCCEEDED:
            self._say("fusion: this recipe was built before; its bundle is taken")
        else:
            self._build(run)
        if run.state != Run.State.SUCCEEDED or run.bundle is None:
            raise CommandError(f"fusion {run.state}: {run.error_code}: {run.error}")
        self._show(run.bundle)

    def _build(self, run: Run) -> None:
        """Run it in a worker process of its own, saying what it does."""
        log = Path(settings.STATE_DIR) / LOG_NAME
        self._say(f"worker: started; it writes to {log}")
        connections.close_all()
        with log.open("wb") as output, stopping_signals() as asked:
            worker = Child("worker", worker_command(), worker_environment(), output)
            worker.start()
            try:
                self._follow(run, worker, asked, log)
            finally:
                stop([worker])

    def _follow(self, run: Run, worker: Child, asked: list[int], log: Path) -> None:
        told: set[str] = set()
        waited = False
        while not run.has_ended:
            if asked:
                raise CommandError("stopped; the next start goes on from here")
            if (code := worker.exit_code) is not None:
                raise CommandError(f"the worker ended with exit code {code}; see {log}")
            time.sleep(0.2)
            run.refresh_from_db()
            if run.retry_at is not None and not waited:
                self._say(f"  {run.stage}: tried again later: {run.error}")
            waited = run.retry_at is not None
            for stage in run.stages.filter(state=RunStage.State.DONE).exclude(name__in=told):
                told.add(stage.name)
                self._say(f"  {stage.name:<12}{stage.done}/{stage.total}  {stage.seconds:.1f} s")

    def _show(self, bundle: Bundle) -> None:
        storage = storages["bundles"]
        if isinstance(storage, FileSystemStorage):
            folder = Path(storage.path(bundle.bundle_id))
            report = verify_bundle(folder)
            if not report.ok:
                faults = "; ".join(f"{c.code}: {c.detail}" for c in report.checks if not c.ok)
                raise CommandError(f"{folder}: does not verify: {faults}")
            self._say(f"bundle: {folder}\nbundle: {len(bundle.files)} files verified")
        else:
            self._say(f"bundle: {bundle.bundle_id} in the bundle storage")
        for line in summary_lines(bundle.title, bundle.build, bundle.summary):
            self._say(line)

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()

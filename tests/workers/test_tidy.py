"""What is removed, what stays, and what is said of it. Real folders, real rows."""

from __future__ import annotations

import logging
import os
import time
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import storages
from django.core.management import CommandError, call_command
from django.utils.timezone import now

from fusion.models import Bundle
from tests.api.conftest import own_state
from tests.factories import make_bundle
from workers.models import Run
from workers.publish import is_published
from workers.tidy import GRACE_SECONDS, tidy

__all__ = ["own_state"]
pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def folders(settings: Any, tmp_path: Path) -> Path:
    settings.STATE_DIR = tmp_path
    settings.WORK_DIR = tmp_path / "work"
    return tmp_path


def put(path: Path, age: float = 2 * GRACE_SECONDS) -> Path:
    """A folder with one file, both last touched `age` seconds ago."""
    path.mkdir(parents=True)
    (path / "file").write_bytes(b"12345")
    for one in (path / "file", path):
        os.utime(one, (time.time() - age,) * 2)
    return path


def bundle_of(number: int, recipe: dict[str, Any], days: float = 0, **fields: Any) -> Bundle:
    made = make_bundle({f"{number}.md": b"# A bundle"}, recipe=recipe, **fields)
    Bundle.objects.filter(pk=made.pk).update(created_at=now() - timedelta(days=days))
    return made


def test_scratch_without_a_run_goes_and_scratch_of_a_run_stays(folders: Path, caplog: Any):
    run = Run.objects.create(title="t", recipe={})
    mine = put(run.folder)
    lost, fresh = (
        put(folders / "work" / str(uuid.uuid4())),
        put(folders / "work" / str(uuid.uuid4()), age=0),
    )
    notes = put(folders / "work" / "notes")

    assert [one.path for one in tidy(dry_run=True)] == [lost]
    assert lost.exists()
    with caplog.at_level(logging.INFO, "workers.tidy"):
        tidy()

    assert not lost.exists()
    assert mine.exists()
    assert fresh.exists()
    assert notes.exists()
    assert f"removed scratch {lost.name}: no run has it, 5 bytes" in caplog.text


def test_unfinished_copies_of_bundles_and_messages_go(folders: Path):
    partial = put(folders / "bundles" / ".abc.1234.partial")
    whole = put(folders / "bundles" / "abc")
    queue = put(folders / "queue")
    taken, waiting = queue / "1.cpu.msg.taken", queue / "1.cpu.msg"
    for message in (taken, waiting):
        message.write_text("{}")
        os.utime(message, (0, 0))

    assert {one.path for one in tidy()} == {partial, taken}
    assert whole.exists()
    assert waiting.exists()


def test_a_cache_goes_when_it_was_not_used_for_long_and_nothing_runs(folders: Path, settings: Any):
    settings.KEEP_CACHE_DAYS = 30
    old = put(folders / "cache" / "archives" / "a", age=31 * 86400)
    new = put(folders / "cache" / "archives" / "b", age=29 * 86400)
    run = Run.objects.create(title="t", recipe={})

    assert tidy() == []
    run.delete()
    assert [one.path for one in tidy()] == [old]
    assert new.exists()


def test_of_each_recipe_the_newest_bundles_are_kept(settings: Any):
    settings.KEEP_BUNDLES = 1
    old, new = bundle_of(1, {"a": 1}, days=2), bundle_of(2, {"a": 1}, days=1)
    other = bundle_of(3, {"a": 2}, days=9)

    tidy()

    old.refresh_from_db()
    assert old.removed_at is not None
    assert old.removed_why == "1 newer bundles of its recipe are kept"
    assert not is_published(old.pk)
    assert not Path(storages["bundles"].path(old.pk)).exists()
    assert set(Bundle.objects.kept()) == {new, other}
    assert is_published(new.pk)


def test_old_bundles_go_but_pinned_and_shareable_ones_stay(settings: Any):
    settings.KEEP_BUNDLE_DAYS = 30
    old = bundle_of(1, {"a": 1}, days=31)
    pinned = bundle_of(2, {"a": 2}, days=31, pinned=True)
    shareable = bundle_of(3, {"a": 3}, days=31, build="shareable")
    busy = bundle_of(4, {"a": 4}, days=31)
    Run.objects.create(title="t", recipe={}, bundle=busy, state="running")

    assert [one.name for one in tidy()] == [old.pk]
    assert set(Bundle.objects.kept()) == {pinned, shareable, busy}


def test_without_rules_no_bundle_goes():
    bundle_of(1, {}, days=9999)
    assert tidy() == []


def test_the_command_tells_what_would_go_and_leaves_it(settings: Any, capsys: Any):
    settings.KEEP_BUNDLE_DAYS = 1
    old = bundle_of(1, {}, days=2)

    call_command("tidy", "--dry-run")

    told = capsys.readouterr().out
    assert f"bundle {old.pk}: older than 1 days" in told
    assert "1 would be removed" in told
    assert is_published(old.pk)


def test_a_pinned_bundle_is_not_removed_by_hand_either():
    bundle = make_bundle()
    call_command("keep_bundle", "pin", bundle.pk[:12])
    with pytest.raises(CommandError, match="pinned"):
        call_command("keep_bundle", "remove", bundle.pk, "--why", "asked by its owner")

    call_command("keep_bundle", "unpin", bundle.pk)
    call_command("keep_bundle", "remove", bundle.pk, "--why", "asked by its owner")
    bundle.refresh_from_db()
    assert bundle.removed_why == "asked by its owner"
    assert not is_published(bundle.pk)

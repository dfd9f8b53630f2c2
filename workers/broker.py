"""The embedded broker: kombu's filesystem transport with whole messages.

kombu's own transport writes a message in place, so that a worker may read a half-written file and
die of it, and takes messages through the system's temporary folder. Here a message appears and
disappears by rename within the state folder (docs/adr/0002-embedded-broker.md has the figures).
"""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path
from queue import Empty
from typing import Any

from kombu.transport import filesystem
from kombu.utils.json import dumps, loads


class Channel(filesystem.Channel):  # type: ignore[misc]
    """Messages as files `<time>_<uuid>.<queue>.msg`."""

    def _put(self, queue: str, payload: dict[str, Any], **_: Any) -> None:
        folder = Path(self.data_folder_out)
        name = f"{time.time_ns():020d}_{uuid.uuid4()}"
        part = folder / f"{name}.part"
        part.write_text(dumps(payload), encoding="utf-8")
        part.rename(folder / f"{name}.{queue}.msg")

    def _get(self, queue: str) -> Any:
        folder = Path(self.data_folder_in)
        for name in sorted(os.listdir(folder)):
            if name.partition(".")[2] != f"{queue}.msg":
                continue
            taken = folder / f"{name}.taken"
            try:
                (folder / name).rename(taken)
            except FileNotFoundError:  # another worker was faster
                continue
            text = taken.read_text(encoding="utf-8")
            taken.unlink()
            return loads(text)
        raise Empty


class Transport(filesystem.Transport):  # type: ignore[misc]
    """Named by `CELERY_BROKER_TRANSPORT` when no server is configured."""

    Channel = Channel

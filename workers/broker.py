"""The embedded broker: kombu's filesystem transport with whole messages.

kombu's own transport writes messages and exchange tables in place, so that a process may read a
half-written file and die of it, and takes messages through the system's temporary folder. Here a
message appears and disappears by rename within the state folder, and there are no tables
(docs/adr/0002-embedded-broker.md has the figures).
"""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from queue import Empty
from typing import Any

from kombu.transport import filesystem
from kombu.utils.json import dumps, loads


class Channel(filesystem.Channel):
    """Messages as files `<time>_<uuid>.<queue>.msg`; an exchange leads to the queue of its name."""

    supports_fanout = False

    def get_table(self, exchange: str) -> list[Any]:
        return [filesystem.exchange_queue_t(exchange, "", exchange)]

    def _queue_bind(self, *_: Any) -> None:
        """Nothing to keep: the table follows from the name."""

    # kombu itself names this argument in two ways.
    def _put(  # type: ignore[override]
        self, queue: str, payload: dict[str, Any], **_: Any
    ) -> None:
        folder = Path(self.data_folder_out)
        name = f"{time.time_ns():020d}_{uuid.uuid4()}"
        part = folder / f"{name}.part"
        part.write_text(dumps(payload), encoding="utf-8")
        part.rename(folder / f"{name}.{queue}.msg")

    def _get(self, queue: str, timeout: float | None = None) -> Any:  # noqa: ARG002
        waiting = Path(self.data_folder_in).iterdir()
        for path in sorted(
            path for path in waiting if path.name.partition(".")[2] == f"{queue}.msg"
        ):
            taken = path.with_name(f"{path.name}.taken")
            try:
                path.rename(taken)
            except FileNotFoundError:  # another worker was faster
                continue
            text = taken.read_text(encoding="utf-8")
            taken.unlink()
            return loads(text)
        raise Empty


class Transport(filesystem.Transport):
    """Named by `CELERY_BROKER_TRANSPORT` when no server is configured."""

    Channel = Channel

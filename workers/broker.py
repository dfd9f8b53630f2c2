"""The embedded broker: kombu's filesystem transport with whole messages.

kombu's own transport writes messages and exchange tables in place, so that a process may read a
half-written file and die of it, and takes messages through the system's temporary folder. Here a
message appears and disappears by rename within the state folder, and there are no tables
(docs/adr/0002-embedded-broker.md has the figures).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from queue import Empty
from typing import Any

from celery import current_app
from django.conf import settings
from kombu.transport import filesystem
from kombu.utils.json import dumps, loads

PRIORITIES = 10  # from 0 to 9, of which 9 goes first


def message_priority(priority: int) -> int:
    """A run's priority as the number that the configured broker's messages take.

    Redis has it the other way round: 0 goes first.
    """
    is_redis = settings.CELERY_BROKER_URL.startswith("redis")
    return PRIORITIES - 1 - priority if is_redis else priority


def depths(queues: Iterable[str], seconds: int = 2) -> dict[str, int]:
    """Messages that wait in each queue of the configured broker; 0 for one that nobody made yet.

    Raises:
        OSError or an error of the broker's client: it does not answer within `seconds`.
    """
    found = dict.fromkeys(queues, 0)
    with current_app.connection_for_write(connect_timeout=seconds) as connection:
        connection.ensure_connection(max_retries=1, timeout=seconds)
        for queue in found:
            channel: Any = connection.channel()
            with channel, suppress(*connection.channel_errors):
                found[queue] = channel.queue_declare(queue, passive=True).message_count
    return found


def kind() -> str:
    """Which broker is configured: file, redis or amqp."""
    scheme = settings.CELERY_BROKER_URL.partition("://")[0]
    return {"filesystem": "file", "rediss": "redis", "amqps": "amqp"}.get(scheme, scheme)


class Channel(filesystem.Channel):
    """Messages as files `<rank>_<time>_<uuid>.<queue>.msg`, the lowest first.

    An exchange leads to the queue of its name.
    """

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
        rank = PRIORITIES - 1 - self._get_message_priority(payload)
        name = f"{rank}_{time.time_ns():020d}_{uuid.uuid4()}"
        part = folder / f"{name}.part"
        try:
            part.write_text(dumps(payload), encoding="utf-8")
            part.rename(folder / f"{name}.{queue}.msg")
        except OSError:  # a full disk
            part.unlink(missing_ok=True)
            raise

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

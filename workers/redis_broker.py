"""Redis as broker: kombu's transport, with messages in hand counted by the server's clock.

kombu notes beside each message that a worker has in hand when it took it, by the clock of that
host, and gives it out again after the visibility timeout, by the clock of another. Hosts whose
clocks differ would find a dead worker's messages too late, or those of living ones at once.
"""

from __future__ import annotations

import time
from typing import Any

from kombu.transport import redis


def _server_time(client: Any) -> float:
    """Seconds since 1970 as the server counts them."""
    seconds, microseconds = client.time()
    return int(seconds) + int(microseconds) / 1e6


class QoS(redis.QoS):
    """What a worker has in hand."""

    channel: Any

    def append(self, message: Any, delivery_tag: str) -> None:
        super().append(message, delivery_tag)
        with self.channel.conn_or_acquire() as client:
            taken_at = {delivery_tag: _server_time(client)}
            client.zadd(self.unacked_index_key, taken_at, xx=True)

    @property
    def visibility_timeout(self) -> int:
        """Seconds before now, by this host's clock, that are the timeout by the server's."""
        with self.channel.conn_or_acquire() as client:
            ahead = time.time() - _server_time(client)
        return int(self.channel.visibility_timeout) + round(ahead)


class Channel(redis.Channel):
    """A connection that counts so."""

    QoS = QoS


class Transport(redis.Transport):
    """Named by `CELERY_BROKER_TRANSPORT` where the broker is Redis."""

    Channel = Channel

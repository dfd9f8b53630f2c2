"""Which addresses are fetched from: public ones over HTTP(S), unless the operator allows others.

A name is resolved once, each of its addresses is checked, and the connection goes to a checked
one: a second answer of the name server has no say. A redirect is a request like any other.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import httpcore2
import httpx2

from fusion.errors import BuildError

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
#: Public by name of their block alone: for protocols, and the site-local ones of early IPv6.
_SPECIAL = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "192.88.99.0/24", "fec0::/10")))
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True)
class FetchRules:
    """What the operator allows.

    Args:
        networks: inner networks that may be reached, such as 10.0.0.0/8.
        largest_bytes: of one file.
        per_host: files fetched from one host beside each other, by all processes here.
        bytes_per_second: from one host, by all processes here; 0: no limit.
        hosts: other values of these two for single hosts.
        credentials: those of the person who fetches, by the names of sources.credentials.KINDS.
        attempts: how often an API that is busy or not reached is asked.
        person: whose they are; what is fetched with them is kept apart from what all may have.
    """

    networks: tuple[str, ...] = ()
    largest_bytes: int = 200 * 10**9
    per_host: int = 4
    bytes_per_second: float = 0.0
    hosts: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)
    person: str = ""
    attempts: int = 5

    def secret(self, name: str) -> str:
        """The person's own credential, else the operator's; "" without any."""
        return self.credentials.get(name) or (os.environ.get(name, "").strip() if name else "")

    def pace(self, host: str) -> tuple[int, float]:
        """How many files at once come from a host, and bytes a second (0: no limit)."""
        return self.hosts.get(host, (self.per_host, self.bytes_per_second))

    @cached_property
    def _networks(self) -> tuple[Any, ...]:
        return tuple(ipaddress.ip_network(one) for one in self.networks)

    def allows(self, address: str) -> bool:
        """Whether an IP address is public or in an allowed network."""
        found = _innermost(ipaddress.ip_address(address.partition("%")[0]))
        if any(found in one for one in self._networks):
            return True
        if found.is_multicast or found.is_reserved or any(found in one for one in _SPECIAL):
            return False
        return found.is_global

    def resolve(self, host: str, port: int) -> list[str]:
        """The addresses of a host, all of them allowed.

        Raises:
            BuildError: url_refused.
            OSError: the name is not known.
        """
        rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        found = list(dict.fromkeys(str(row[4][0]) for row in rows))
        if not all(self.allows(one) for one in found):
            # Which inner address a name has is nobody's business: the text reaches API clients.
            raise BuildError(
                "url_refused",
                f"{host} is no public address; the operator can allow its network with "
                "IMAGINGX_FETCH_NETWORKS",
            )
        return found


def _innermost(address: _Address) -> _Address:
    """The IPv4 address that an IPv6 one stands for."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


class _Checked(httpcore2.NetworkBackend):
    """Connects to addresses that the rules allow."""

    def __init__(self, rules: FetchRules) -> None:
        self._rules = rules
        self._plain = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        try:
            addresses = self._rules.resolve(host, port)
        except OSError as error:
            raise httpcore2.ConnectError(f"{host}: {error.strerror or error}") from error
        for address in addresses[:-1]:
            try:
                return self._plain.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
        return self._plain.connect_tcp(addresses[-1], port, timeout, local_address, socket_options)


class GuardedTransport(httpx2.HTTPTransport):
    """httpx2's own transport on connections that the rules allow."""

    def __init__(self, rules: FetchRules) -> None:
        super().__init__()
        self._pool = httpcore2.ConnectionPool(
            ssl_context=httpx2.create_ssl_context(), network_backend=_Checked(rules)
        )

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.scheme not in {"http", "https"} or request.url.userinfo:
            raise BuildError(
                "url_refused", f"{request.url.host}: found {request.url.scheme}, expected http(s)"
            )
        return super().handle_request(request)


def client(rules: FetchRules) -> httpx2.Client:
    """A client whose every request, redirected ones too, goes by the rules."""
    return httpx2.Client(
        transport=GuardedTransport(rules),
        follow_redirects=True,
        max_redirects=10,
        timeout=httpx2.Timeout(60.0, connect=20.0),
        headers={"User-Agent": "imaging-x-portal", "Accept-Encoding": "identity"},
        trust_env=False,
    )

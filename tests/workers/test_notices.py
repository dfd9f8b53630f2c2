"""Being told of the end of a run, by a real mail server and a real receiver of requests."""

from __future__ import annotations

import email
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from django.contrib.auth.models import User

from tests.factories import make_run
from workers.clock import now
from workers.models import Run, RunNotice
from workers.notices import (
    MOST_ATTEMPTS,
    NoticeError,
    ask_for,
    check_address,
    deliver,
    secret_of,
    signature,
    take_due,
)

pytestmark = pytest.mark.django_db
PAGE = "http://portal.example/runs/1/"


class Receiver(BaseHTTPRequestHandler):
    """Notes requests and answers with the next status, 200 at the end."""

    seen: list[tuple[dict[str, str], bytes]]
    statuses: list[int]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append((dict(self.headers), body))
        self.send_response(self.statuses.pop(0) if self.statuses else 200)
        self.send_header("Location", "http://127.0.0.1:1/elsewhere")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def receiver() -> Iterator[tuple[str, type[Receiver]]]:
    kind = type("Mine", (Receiver,), {"seen": [], "statuses": []})
    server = HTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/hook", kind
    server.shutdown()
    server.server_close()


@pytest.fixture
def owner() -> User:
    return User.objects.create_user("reader", "reader@example.org")


@pytest.fixture
def ended() -> Run:
    return make_run(state=Run.State.SUCCEEDED, finished_at=now())


def test_a_hook_is_told_once_with_a_signature_that_holds(settings, receiver, owner, ended):
    settings.FETCH_NETWORKS = ["127.0.0.0/8"]
    url, server = receiver
    notice = ask_for(ended, owner, "hook", url, PAGE)

    assert take_due() == [notice.pk]
    assert take_due() == []  # held by the first
    deliver(notice.pk)
    deliver(notice.pk)

    ((headers, body),) = server.seen
    seconds = int(headers["X-Imaging-X-Signature"].split(",")[0].removeprefix("t="))
    assert headers["X-Imaging-X-Signature"] == signature(secret_of(notice), seconds, body)
    assert json.loads(body)["run"]["state"] == "succeeded"
    assert json.loads(body)["page"] == PAGE
    notice.refresh_from_db()
    assert (notice.state, notice.attempts, notice.answer) == ("delivered", 1, "status 200")


def test_a_hook_that_fails_is_tried_again_ever_later(settings, receiver, owner, ended):
    settings.FETCH_NETWORKS = ["127.0.0.0/8"]
    url, server = receiver
    server.statuses += [500, 302]
    notice = ask_for(ended, owner, "hook", url, PAGE)
    waits = []
    for _ in range(2):
        deliver(notice.pk)
        notice.refresh_from_db()
        waits.append((notice.due_at - now()).total_seconds())
        assert take_due() == []  # not yet
        RunNotice.objects.update(due_at=now())
        assert take_due() == [notice.pk]
    deliver(notice.pk)

    notice.refresh_from_db()
    assert len(server.seen) == 3  # the redirect was not followed
    assert waits[1] > 1.5 * waits[0]
    assert (notice.state, notice.attempts) == ("delivered", 3)


def test_a_hook_is_given_up_in_the_end(settings, receiver, owner, ended):
    settings.FETCH_NETWORKS = ["127.0.0.0/8"]
    url, server = receiver
    server.statuses += [503] * MOST_ATTEMPTS
    notice = ask_for(ended, owner, "hook", url, PAGE)

    for _ in range(MOST_ATTEMPTS + 1):
        deliver(notice.pk)

    notice.refresh_from_db()
    assert (notice.state, len(server.seen)) == ("failed", MOST_ATTEMPTS)
    assert "status 503" in notice.answer


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9/",
        "http://localhost/",
        "http://[::1]/",
        "http://10.0.0.1/",
        "http://169.254.169.254/latest/meta-data",
        "http://[::ffff:127.0.0.1]/",
        "http://user:password@example.org/",
        "file:///etc/passwd",
        "ftp://example.org/",
        "http://example.org:99999/",
        "javascript:alert(1)",
        "",
    ],
)
def test_addresses_inside_are_refused(url):
    with pytest.raises(NoticeError, match="url: "):
        check_address(url)


def test_a_network_that_is_no_longer_allowed_is_not_asked(settings, receiver, owner, ended):
    settings.FETCH_NETWORKS = ["127.0.0.0/8"]
    url, server = receiver
    notice = ask_for(ended, owner, "hook", url, PAGE)
    settings.FETCH_NETWORKS = []

    deliver(notice.pk)

    notice.refresh_from_db()
    assert (server.seen, notice.state, notice.attempts) == ([], "waiting", 1)
    assert "no public address" in notice.answer


class Mailbox:
    """What a mail server took."""

    def __init__(self) -> None:
        self.mails: list[Any] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        self.mails.append((envelope.rcpt_tos, email.message_from_bytes(envelope.content)))
        return "250 taken"


def test_mail_goes_to_the_owners_own_address(settings, owner):
    box = Mailbox()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST = "127.0.0.1"
        settings.EMAIL_PORT = port
        run = make_run(
            title="Two\nlines", state=Run.State.FAILED, error_code="disk_full", error="no room"
        )
        notice = ask_for(run, owner, "mail", "other@example.org", PAGE)
        deliver(notice.pk)
    finally:
        controller.stop()

    ((to, mail),) = box.mails
    assert to == ["reader@example.org"]
    assert mail["Subject"] == "Two lines: failed"
    text = mail.get_payload()
    assert "disk_full: no room" in text
    assert PAGE in text
    notice.refresh_from_db()
    assert notice.state == "delivered"


def test_nothing_is_due_before_the_run_has_ended(settings, receiver, owner):
    settings.FETCH_NETWORKS = ["127.0.0.0/8"]
    run = make_run(state=Run.State.RUNNING)
    notice = ask_for(run, owner, "hook", receiver[0], PAGE)

    assert take_due() == []
    deliver(notice.pk)
    assert receiver[1].seen == []


def test_page_and_api_keep_notices_to_their_owner(settings, client, receiver, owner):
    settings.FETCH_NETWORKS = ["127.0.0.0/8"]
    url, _ = receiver
    run = make_run()
    address = f"/api/v1/runs/{run.pk}/notices/"
    assert client.get(address).status_code == 401
    client.force_login(owner)

    refused = client.post(f"/runs/{run.pk}/notices/", {"kind": "hook", "url": "http://10.0.0.1/"})
    assert refused.status_code == 422
    assert "no public address" in refused.content.decode()
    asked = {"kind": "hook", "url": url}
    made = client.post(address, asked, content_type="application/json")
    again = client.post(f"/runs/{run.pk}/notices/", asked)

    assert (made.status_code, again.status_code) == (201, 302)
    assert len(client.get(address).json()["results"]) == 1
    html = client.get(f"/runs/{run.pk}/").content.decode()
    assert url in html
    assert made.json()["secret"] in html
    bad = client.post(address, {"kind": "mail"}, content_type="application/json")
    assert (bad.status_code, bad.json()["code"]) == (422, "notice_refused")
    client.force_login(User.objects.create_user("other"))
    one = f"{address}{made.json()['id']}/"
    assert client.delete(one).status_code == 404
    assert url not in client.get(f"/runs/{run.pk}/").content.decode()
    client.force_login(owner)
    assert client.delete(one).status_code == 204
    assert not RunNotice.objects.exists()

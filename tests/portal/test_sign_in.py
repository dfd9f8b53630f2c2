"""Signing in: how often it may fail, and from where."""

from __future__ import annotations

from datetime import timedelta

import pytest
from axes.models import AccessAttempt
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from django.utils.timezone import now

pytestmark = pytest.mark.django_db
HERE, THERE = "192.0.2.7", "192.0.2.8"
RIGHT, WRONG = "a long enough one", "another"


@pytest.fixture(autouse=True)
def users(settings):
    settings.AXES_FAILURE_LIMIT = 3
    for name in ("ada", "ben"):
        User.objects.create_user(name, password=RIGHT, is_staff=True)


def sign_in(name: str, password: str, address: str = HERE, page: str = "/login/", **named):
    words = {"username": name, "password": password}
    return Client(REMOTE_ADDR=address, **named).post(page, words)


@pytest.mark.parametrize("page", ["/login/", "/admin/login/"])
def test_after_some_wrong_passwords_the_right_one_waits_too(page):
    assert [sign_in("ada", WRONG, page=page).status_code for _ in range(3)] == [200, 200, 429]

    answer = sign_in("ada", RIGHT, page=page)

    assert answer.status_code == 429
    assert "Try again in 15 minutes" in answer.text
    assert 880 < int(answer["Retry-After"]) <= 900
    assert "sessionid" not in answer.cookies
    assert sign_in("ada", RIGHT, THERE, page).status_code == 302
    assert sign_in("ben", RIGHT, HERE, page).status_code == 302


def test_the_wait_ends_and_trying_does_not_make_it_longer():
    for _ in range(5):
        sign_in("ada", WRONG)
    AccessAttempt.objects.update(attempt_time=now() - timedelta(minutes=14))
    waits = sign_in("ada", RIGHT)
    assert (waits.status_code, "Try again in 1 minute;" in waits.text) == (429, True)
    AccessAttempt.objects.update(attempt_time=now() - timedelta(minutes=16))

    assert sign_in("ada", RIGHT).status_code == 302


def test_the_right_password_sets_the_count_back():
    for _ in range(3):
        sign_in("ada", WRONG)
        sign_in("ada", WRONG)
        assert sign_in("ada", RIGHT).status_code == 302


def test_an_address_that_tries_many_names_waits_with_all_of_them(settings):
    settings.SIGN_IN_ATTEMPTS_PER_ADDRESS = 6
    told = [sign_in(f"name{number}", WRONG).status_code for number in range(6)]

    answer = sign_in("ada", RIGHT)

    assert (told, answer.status_code) == ([200] * 5 + [429], 429)
    assert "Too many wrong passwords came from your address. Try again in 15" in answer.text
    assert 880 < int(answer["Retry-After"]) <= 900
    assert sign_in("ada", RIGHT, THERE).status_code == 302
    AccessAttempt.objects.filter(username="name0").update(
        attempt_time=now() - timedelta(minutes=14)
    )
    assert 40 < int(sign_in("ada", RIGHT)["Retry-After"]) <= 60  # then five are left
    AccessAttempt.objects.filter(username="name0").update(
        attempt_time=now() - timedelta(minutes=16)
    )
    assert sign_in("ada", RIGHT).status_code == 302
    assert sign_in("name6", WRONG).status_code == 429  # an own account sets nothing back


def test_an_address_that_nobody_knows_is_not_counted_as_one(settings):
    settings.SIGN_IN_ATTEMPTS_PER_ADDRESS, settings.PROXIES = 3, 1  # a proxy that tells none
    for number in range(4):
        assert sign_in(f"name{number}", WRONG).status_code == 200

    assert sign_in("ada", RIGHT).status_code == 302


def test_an_operator_lifts_it():
    for _ in range(3):
        sign_in("ada", WRONG)
    call_command("axes_reset_username", "ada")

    assert sign_in("ada", RIGHT).status_code == 302


def test_no_password_is_kept_of_a_failure():
    sign_in("ada", "a-secret-canary")

    assert "a-secret-canary" not in str(list(AccessAttempt.objects.values()))


def test_behind_a_proxy_each_visitor_is_counted_alone(settings):
    settings.PROXIES = 1
    for _ in range(3):
        sign_in("ada", WRONG, "10.0.0.1", HTTP_X_FORWARDED_FOR=f"8.8.8.8, {HERE}")

    blocked, free = (
        sign_in("ada", RIGHT, "10.0.0.1", HTTP_X_FORWARDED_FOR=f"1.1.1.1, {one}").status_code
        for one in (HERE, THERE)
    )
    assert (blocked, free) == (429, 302)


# Where a visitor comes from.


@pytest.mark.parametrize(
    ("proxies", "networks", "peer", "told", "address"),
    [
        (0, [], "127.0.0.1", None, "127.0.0.1"),
        (0, [], "192.0.2.1", "127.0.0.1", "192.0.2.1"),
        (1, [], "127.0.0.1", None, ""),
        (1, [], "127.0.0.1", "192.0.2.1", "192.0.2.1"),
        (1, [], "127.0.0.1", "127.0.0.1, 192.0.2.1", "192.0.2.1"),
        (1, [], "127.0.0.1", "no address", ""),
        (1, [], "127.0.0.1", "192.0.2.1,", ""),
        (2, [], "127.0.0.1", "8.8.8.8, 192.0.2.1, 10.0.0.9", "192.0.2.1"),
        (2, [], "127.0.0.1", "192.0.2.1", "192.0.2.1"),
        (1, ["10.0.0.0/8"], "10.0.0.1", "192.0.2.1", "192.0.2.1"),
        (1, ["10.0.0.0/8"], "192.0.2.9", "127.0.0.1", "192.0.2.9"),
        (1, ["10.0.0.0/8"], "", "127.0.0.1", ""),
        (1, ["fd00::/8"], "fd00::1", "2001:db8::1", "2001:db8::1"),
    ],
)
def test_a_forwarded_address_is_believed_from_proxies_alone(
    settings, rf, proxies, networks, peer, told, address
):
    from portal.visitor import address_of

    settings.PROXIES, settings.PROXY_NETWORKS = proxies, networks
    more = {"HTTP_X_FORWARDED_FOR": told} if told else {}

    assert address_of(rf.get("/", REMOTE_ADDR=peer, **more)) == address


def test_nobody_is_local_behind_a_proxy_that_says_nothing(client, settings):
    assert client.get("/metrics").status_code == 200
    settings.PROXIES = 1
    assert client.get("/metrics").status_code == 403
    assert client.get("/metrics", HTTP_X_FORWARDED_FOR="127.0.0.1").status_code == 403
    settings.PROXY_NETWORKS = ["192.0.2.0/24"]
    assert client.get("/metrics").status_code == 200  # past the proxy
    assert client.get("/metrics", REMOTE_ADDR="192.0.2.1").status_code == 403
    assert client.get("/metrics", HTTP_X_FORWARDED_FOR="127.0.0.1").status_code == 403
    settings.METRICS_NETWORKS = ["192.0.2.0/24"]
    assert client.get("/metrics", REMOTE_ADDR="192.0.2.1").status_code == 403


def test_the_rate_is_counted_by_the_visitors_address(client, settings):
    settings.API_RATE, settings.PROXIES = "2/min", 1

    def ask(address: str) -> int:
        told = {"HTTP_X_FORWARDED_FOR": f"{address}, {address}"}
        return client.get("/api/v1/corrections/", **told).status_code

    assert [ask("192.0.2.31") for _ in range(3)] == [200, 200, 429]
    assert ask("192.0.2.32") == 200

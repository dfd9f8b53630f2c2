"""Signing in by OpenID Connect: a portal as a process of its own, and a provider beside it."""

from __future__ import annotations

import ast
import base64
import hashlib
import html
import io
import json
import os
import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import oidc_provider_mock
import pytest
from playwright.sync_api import Browser, expect
from werkzeug.serving import make_server
from werkzeug.test import run_wsgi_app

from tests.conftest import ROOT
from tests.running import Running
from tests.web.conftest import browser
from tests.workers.conftest import Site

__all__ = ["browser"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
PASSWORD = "a long enough one"
BEGIN, CALLBACK = "/login/oidc/", "/login/oidc/callback/"


class Issuer:
    """The provider on a port; `tampered` replaces claims of its ID tokens, None leaves them out."""

    def __init__(self) -> None:
        self.app = oidc_provider_mock.app(require_nonce=True)
        self.tampered: dict[str, Any] | None = {}
        self.asked: dict[str, list[str]] = {}  # the last request for a token
        self.server = make_server("localhost", 0, self._answer, threaded=True)
        self.url = f"http://localhost:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Any:
        if environ["PATH_INFO"] != "/oauth2/token":
            return self.app(environ, start_response)
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        self.asked = parse_qs(body.decode())
        answer, status, _ = run_wsgi_app(self.app, {**environ, "wsgi.input": io.BytesIO(body)})
        told = json.loads(b"".join(answer))
        if "id_token" in told and self.tampered is None:
            del told["id_token"]
        elif "id_token" in told and self.tampered:
            claims = jwt.decode(told["id_token"], options={"verify_signature": False})
            told["id_token"] = jwt.encode(claims | self.tampered, "k" * 32)
        start_response(status, [("Content-Type", "application/json")])
        return [json.dumps(told).encode()]

    def knows(self, sub: str, **claims: Any) -> None:
        httpx.put(f"{self.url}/users/{sub}", json=claims).raise_for_status()


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture(autouse=True)
def honest(issuer: Issuer) -> None:
    issuer.tampered = {}


class Portal(Running):
    """The web server alone, on an empty catalog."""

    def start(self) -> None:
        self.site.manage("migrate", "-v0")
        command = ["-m", "gunicorn", "portal.wsgi:application", "--bind", f"127.0.0.1:{self.port}"]
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, *command, "--threads", "4", "--no-control-socket"],
                cwd=ROOT, env=self.site.environment, stdout=output, stderr=output,
            )  # fmt: skip
        self.wait_until_it_answers()


def settings_for(issuer: str, **more: str) -> dict[str, str]:
    return {
        "IMAGINGX_OIDC_ISSUER": issuer,
        "IMAGINGX_OIDC_CLIENT_ID": "portal",
        "IMAGINGX_OIDC_CLIENT_SECRET": "a-secret-canary",
        "IMAGINGX_OIDC_NAME": "Example <University>",
        "IMAGINGX_OIDC_CURATOR_GROUP": "imaging-curators",
        **more,
    }


def _started(folder: Path, issuer: str, **more: str) -> Portal:
    portal = Portal(Site(folder, folder, extra=settings_for(issuer, **more)))
    portal.start()
    return portal


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory, issuer: Issuer) -> Iterator[Portal]:
    running = _started(tmp_path_factory.mktemp("both"), issuer.url)
    running.add_user("ada", PASSWORD, "--staff", "--curator")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory, issuer: Issuer) -> Iterator[Portal]:
    running = _started(tmp_path_factory.mktemp("closed"), issuer.url, IMAGINGX_LOCAL_SIGN_IN="0")
    running.add_user("ada", PASSWORD, "--staff")
    yield running
    running.stop()


@pytest.fixture
def visitor(portal: Portal) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=portal.url, timeout=60) as client:
        yield client


def token_of(page: httpx.Response) -> str:
    return re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)[1]


def begin(visitor: httpx.Client, onward: str = "") -> str:
    """Press the button; returns the address at the provider that its answer leads to."""
    page = visitor.get("/login/")
    words = {"csrfmiddlewaretoken": token_of(page), "next": onward}
    answer = visitor.post(BEGIN, data=words)
    assert answer.status_code == 200, answer.text
    return html.unescape(re.search(r'content="0; url=([^"]+)"', answer.text)[1])


def agree(address: str, sub: str, action: str = "authorize") -> str:
    """Sign in at the provider; returns where it sends back to."""
    answer = httpx.post(address, data={"sub": sub, "action": action})
    assert answer.status_code == 302, answer.text
    return answer.headers["Location"]


def sign_in(visitor: httpx.Client, sub: str, onward: str = "") -> httpx.Response:
    return visitor.get(agree(begin(visitor, onward), sub))


def rows(portal: Portal, sql: str, *values: Any) -> list[Any]:
    with sqlite3.connect(portal.site.state / "db.sqlite3", timeout=30) as database:
        return database.execute(sql, values).fetchall()


def account(portal: Portal, sub: str) -> tuple[str, str]:
    """Name and mail address of the account that belongs to a `sub`."""
    (row,) = rows(
        portal,
        "SELECT username, email, provider, extra_data FROM auth_user u"
        " JOIN socialaccount_socialaccount s ON s.user_id = u.id WHERE uid = ?",
        sub,
    )
    assert row[2].startswith("http://localhost:"), "kept under the issuer"
    assert row[3] == "{}", "the claims are not kept"
    return row[:2]


def is_curator(portal: Portal, name: str) -> bool:
    return bool(rows(
        portal,
        "SELECT 1 FROM auth_user u JOIN auth_user_groups m ON m.user_id = u.id JOIN auth_group g"
        " ON g.id = m.group_id WHERE u.username = ? AND g.name = 'curators'",
        name,
    ))  # fmt: skip


# The way in.


def test_a_person_signs_in_and_comes_back_to_where_they_were(portal, issuer, visitor):
    issuer.knows("s-1", preferred_username="Grace.H", email="g@example.org", email_verified=True)
    page = visitor.get("/login/?next=/account/")
    assert "Sign in with Example &lt;University&gt;" in page.text
    assert page.text.count('name="next" value="/account/"') == 2
    assert 'name="password"' in page.text

    answer = sign_in(visitor, "s-1", "/account/")

    assert (answer.status_code, answer.headers["Location"]) == (302, "/account/")
    assert "Sign out grace.h" in visitor.get("/account/").text
    assert account(portal, "s-1") == ("grace.h", "g@example.org")
    ((password,),) = rows(portal, "SELECT password FROM auth_user WHERE username = 'grace.h'")
    assert password.startswith("!"), "no password opens it"


def test_state_and_proof_of_the_code_are_sent(issuer, visitor):
    addresses = [begin(visitor), begin(visitor)]
    first, second = (parse_qs(urlsplit(address).query) for address in addresses)

    assert first["redirect_uri"] == [f"{visitor.base_url}{CALLBACK}"]
    assert first["code_challenge_method"] == ["S256"]
    assert len(first["code_challenge"][0]) == 43
    assert set(first["scope"][0].split()) == {"openid", "profile", "email"}
    assert first["state"] != second["state"]
    assert first["code_challenge"] != second["code_challenge"]

    assert visitor.get(agree(addresses[0], "s-0")).status_code == 302
    proof = hashlib.sha256(issuer.asked["code_verifier"][0].encode()).digest()
    assert base64.urlsafe_b64encode(proof).decode().rstrip("=") == first["code_challenge"][0]


def test_the_same_person_gets_the_same_account(portal, issuer, visitor):
    issuer.knows("s-2", preferred_username="hedy")
    sign_in(visitor, "s-2")
    issuer.knows("s-2", preferred_username="kiesler", email="h@example.org", email_verified=True)
    sign_in(visitor, "s-2")

    assert account(portal, "s-2") == ("hedy", "h@example.org")


def test_an_account_of_the_portal_is_never_taken_over(portal, issuer, visitor):
    rows(portal, "UPDATE auth_user SET email = 'ada@example.org' WHERE username = 'ada'")
    issuer.knows("s-3", preferred_username="ada", email="ada@example.org", email_verified=True)
    sign_in(visitor, "s-3")

    name, address = account(portal, "s-3")
    assert name.startswith("ada")
    assert name != "ada"
    assert address == "ada@example.org"
    assert visitor.get("/status/", headers={"X-Forwarded-For": "192.0.2.1"}).status_code == 403
    assert is_curator(portal, "ada")
    assert not is_curator(portal, name)


@pytest.mark.parametrize(
    ("sub", "claims", "expected"),
    [
        ("n-1", {"email": "rosa@example.org", "email_verified": False}, ("rosa", "")),
        ("n-2", {"email": "lise@example.org"}, ("lise", "")),
        ("n-3", {"preferred_username": "Émilie du Châtelet"}, ("emilie_du_chatelet", "")),
        ("n-4", {"preferred_username": "<script>"}, ("script", "")),
        ("n-5", {}, ("user", "")),
    ],
)
def test_names_and_addresses(portal, issuer, visitor, sub, claims, expected):
    issuer.knows(sub, **claims)
    sign_in(visitor, sub)

    assert account(portal, sub) == expected


def test_the_role_comes_and_goes_with_the_group(portal, issuer, visitor):
    found = []
    for groups in (["imaging-curators", "x"], ["x"], "imaging-curators", None):
        issuer.knows("s-4", preferred_username="vera", groups=groups)
        sign_in(visitor, "s-4")
        found.append(is_curator(portal, "vera"))

    assert found == [True, False, True, False]
    assert is_curator(portal, "ada"), "who has a password keeps the role"


@pytest.mark.parametrize("onward", ["https://evil.example/", "//evil.example/", "javascript:1"])
def test_nobody_is_sent_on_to_a_stranger(issuer, visitor, onward):
    issuer.knows("s-5", preferred_username="mary")

    assert sign_in(visitor, "s-5", onward).headers["Location"] == "/runs/"


def test_a_password_still_opens_the_portals_own_accounts(visitor):
    page = visitor.get("/login/")
    words = {"username": "ada", "password": PASSWORD, "csrfmiddlewaretoken": token_of(page)}

    assert visitor.post("/login/", data=words).status_code == 302
    assert visitor.get("/admin/").status_code == 200


# What is refused.


def refusal(answer: httpx.Response) -> tuple[int, str]:
    assert "Traceback" not in answer.text
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    found = re.search(r'<p role="alert">(.*?)</p>', answer.text)
    return answer.status_code, html.unescape(found[1]) if found else ""


def test_a_state_counts_once_and_in_its_own_browser(portal, issuer, visitor):
    issuer.knows("s-6", preferred_username="emmy")
    back = agree(begin(visitor), "s-6")
    with httpx.Client(base_url=portal.url) as stranger:
        assert refusal(stranger.get(back))[0] == 400
        assert "sessionid" not in stranger.cookies
    assert visitor.get(back).status_code == 302

    status, reason = refusal(visitor.get(back))
    assert status == 400
    assert reason.startswith("This sign-in was not begun in this browser")
    assert refusal(visitor.get(f"{CALLBACK}?code=x&state=forged"))[0] == 400
    assert refusal(visitor.get(CALLBACK))[0] == 400


def test_who_does_not_agree_there_is_told_so(visitor):
    status, reason = refusal(visitor.get(f"{_back(visitor)}&error=access_denied"))
    assert (status, reason) == (
        403,
        "Example <University> did not let you in: you, or it, did not agree (access_denied).",
    )
    written = f"{_back(visitor)}&error=Call+0900&error_description=Call+0900"
    status, reason = refusal(visitor.get(written))
    assert (status, reason) == (403, "Example <University> did not let you in: it says (an error).")
    assert refusal(visitor.get(_back(visitor))) == (
        400,
        "The answer of Example <University> holds no code.",
    )


def _back(visitor: httpx.Client) -> str:
    (state,) = parse_qs(urlsplit(begin(visitor)).query)["state"]
    return f"{CALLBACK}?state={state}"


def test_a_code_that_the_provider_does_not_know_opens_nothing(visitor):
    assert refusal(visitor.get(f"{_back(visitor)}&code=guessed")) == (
        403,
        "Example <University> gave no token for this sign-in.",
    )
    assert "sign-in" not in visitor.get("/account/").text


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"aud": "another"}, "The ID token of Example <University> is not valid: Audience"),
        ({"iss": "https://evil.example"}, "The ID token of Example <University> is not valid: Inv"),
        ({"exp": 1}, "The ID token of Example <University> is not valid: Signature has expired"),
        ({"nonce": "another"}, "The answer of Example <University> belongs to another sign-in."),
        ({"nonce": None}, "The answer of Example <University> belongs to another sign-in."),
        ({"sub": "victim"}, "The answer of Example <University> speaks of two people."),
        (None, "The answer of Example <University> holds no ID token."),
    ],
)
def test_an_id_token_that_is_not_for_us_opens_nothing(issuer, visitor, claims, reason):
    issuer.knows("s-7", preferred_username="mallory")
    issuer.tampered = claims
    status, found = refusal(sign_in(visitor, "s-7"))

    assert status == 400
    assert found.startswith(reason)
    assert visitor.get("/account/").status_code == 302


def test_an_account_that_is_switched_off_stays_out(portal, issuer, visitor):
    issuer.knows("s-8", preferred_username="trudy")
    sign_in(visitor, "s-8")
    rows(portal, "UPDATE auth_user SET is_active = 0 WHERE username = 'trudy'")
    assert visitor.get("/account/").status_code == 302

    assert refusal(sign_in(visitor, "s-8")) == (
        403,
        "Your account on this portal is switched off.",
    )


def test_the_way_out_needs_the_pages_token_and_a_press(visitor):
    assert visitor.post(BEGIN).status_code == 403
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        token = token_of(visitor.get("/login/"))
        answer = visitor.request(method, BEGIN, headers={"X-CSRFToken": token})
        assert answer.status_code == 405, method
    assert visitor.post(CALLBACK, headers={"X-CSRFToken": token}).status_code == 405


@pytest.mark.parametrize(
    "page",
    ["/accounts/", "/accounts/signup/", "/accounts/login/", "/signup/", "/login/signup/",
     "/oidc/openid_connect/login/", "/accounts/3rdparty/", "/accounts/password/reset/"],
)  # fmt: skip
def test_no_page_of_allauth_is_there(visitor, page):
    assert visitor.get(page).status_code == 404


def test_a_provider_that_is_away_is_a_page(tmp_path):
    running = _started(tmp_path, "http://localhost:9")
    try:
        with httpx.Client(base_url=running.url, timeout=60) as visitor:
            words = {"csrfmiddlewaretoken": token_of(visitor.get("/login/"))}
            status, reason = refusal(visitor.post(BEGIN, data=words))
    finally:
        running.stop()

    assert (status, reason) == (
        502,
        "Example <University> gave no usable answer. Try again later.",
    )
    assert "a-secret-canary" not in running.log.read_text()


# Without passwords.


def test_without_passwords_the_provider_is_the_only_way_in(closed, issuer):
    issuer.knows("c-1", preferred_username="joan")
    with httpx.Client(base_url=closed.url, timeout=60) as visitor:
        page = visitor.get("/login/")
        token = token_of(page)
        assert 'name="password"' not in page.text
        words = {"username": "ada", "password": PASSWORD, "csrfmiddlewaretoken": token}
        assert visitor.post("/login/", data=words).status_code == 405
        answer = visitor.post("/admin/login/?next=/admin/", data=words)
        assert answer.status_code == 302
        assert answer.headers["Location"] == "/login/?next=/admin/"
        assert "sessionid" not in visitor.cookies

        sign_in(visitor, "c-1", "/admin/")
        assert visitor.get("/admin/").status_code == 302
        rows(closed, "UPDATE auth_user SET is_staff = 1 WHERE username = 'joan'")
        assert visitor.get("/admin/").status_code == 200


# In a real browser: what the page's policy lets through.


@pytest.mark.browser
def test_a_browser_is_led_to_the_provider_and_back(closed, issuer, browser: Browser):
    page = browser.new_context().new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(f"{closed.url}/login/?next=/account/")
    page.get_by_role("button", name="Sign in with Example <University>").click()
    page.wait_for_url(f"{issuer.url}/**")
    page.locator('input[name="sub"]').fill("ida@example.org")
    page.keyboard.press("Enter")

    page.wait_for_url(f"{closed.url}/account/")
    expect(page.get_by_role("button", name="Sign out ida")).to_be_visible()
    assert not [text for text in said if "Content Security" in text]


# Settings.


def _manage(folder: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("IMAGINGX_")}
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False,
        env={**kept, "IMAGINGX_STATE_DIR": str(folder), **more},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"IMAGINGX_OIDC_ISSUER": "https://x.example"},
         "IMAGINGX_OIDC_CLIENT_ID, IMAGINGX_OIDC_CLIENT_SECRET: found nothing"),
        ({"IMAGINGX_OIDC_NAME": "X"}, "IMAGINGX_OIDC_ISSUER, "),
        ({"IMAGINGX_LOCAL_SIGN_IN": "0"}, "expected a value with IMAGINGX_LOCAL_SIGN_IN"),
        (settings_for("http://x.example"), "IMAGINGX_OIDC_ISSUER: found 'http://x.example'"),
        (settings_for("https://x.example/?a=b"), "expected an https address without a query"),
        (settings_for("https://[x"), "expected an https address"),
    ],
)  # fmt: skip
def test_half_a_configuration_stops_the_start(tmp_path, given, told):
    done = _manage(tmp_path, "-c", "import portal.settings", **given)

    assert done.returncode != 0
    assert told in done.stderr
    assert "a-secret-canary" not in done.stderr


@pytest.mark.parametrize("local", ["0", "1"])
def test_the_checks_of_a_deployment_are_clean(tmp_path, local):
    given = settings_for("https://x.example", IMAGINGX_LOCAL_SIGN_IN=local, IMAGINGX_HTTPS="1")
    for words in (
        ("check", "--deploy", "--fail-level", "WARNING"),
        ("makemigrations", "--check", "--dry-run"),
    ):
        done = _manage(tmp_path, "manage.py", *words, **given)
        assert done.returncode == 0, done.stderr


def test_an_issuer_adds_two_routes_and_no_other(tmp_path):
    code = "import django; django.setup(); from tests.portal.routes import routes; print(routes())"
    with_it, without = (
        set(ast.literal_eval(_manage(
            tmp_path, "-c", code, DJANGO_SETTINGS_MODULE="portal.settings", **given
        ).stdout))
        for given in (settings_for("https://x.example"), {})
    )  # fmt: skip

    assert with_it - without == {BEGIN, CALLBACK}
    assert without < with_it


def test_without_an_issuer_nothing_of_it_is_loaded(tmp_path):
    code = (
        "import django, sys; django.setup(); import portal.urls;"
        "print([name for name in sys.modules if name.split('.')[0] in {'allauth', 'oauthlib'}"
        " or name.endswith('.oidc')])"
    )
    done = _manage(tmp_path, "-c", code, DJANGO_SETTINGS_MODULE="portal.settings")

    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.django_db
def test_without_an_issuer_its_routes_are_not_there(client):
    for address in (BEGIN, CALLBACK):
        assert client.get(address).status_code == 404
    assert "Sign in with" not in client.get("/login/").text

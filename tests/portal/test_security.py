"""What a scanner would look for: on every page and endpoint, asked as a browser asks."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import subprocess
import sys

import pytest
from django.contrib.auth.models import User
from django.http import HttpResponse

from fusion.models import Upload
from portal.middleware import LARGEST_BODY
from portal.web.bundles import REPORT_POLICY
from tests.conftest import ROOT
from tests.portal.test_authorisation import ROWS
from tests.web.test_markup import Page
from workers.logs import AddFields, JsonLine, OneLine
from workers.models import Run
from workers.notices import NoticeError, ask_for

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("datasets")]
CHANGING = [row for row in ROWS if row[0] not in {"GET", "HEAD"}]
READING = [route for method, route in ROWS if method == "GET"]
HARVESTERS = "/oai/"  # a reader that asks by POST, which the protocol wants; it changes nothing
#: Built pages and pictures with styles of their own; nothing in them runs or is fetched.
SANDBOXED = ("/report/", "<slug:bundle_id>/baseline/", ".svg")
FIELD = 'name="csrfmiddlewaretoken"'


def policy_of(answer: HttpResponse) -> dict[str, list[str]]:
    """Directive -> its sources."""
    parts = (part.split() for part in answer.headers["Content-Security-Policy"].split(";"))
    return {part[0]: part[1:] for part in parts}


def check_headers(answer: HttpResponse, where: str) -> None:
    policy = policy_of(answer)
    assert policy["default-src"] == ["'none'"], where
    assert policy["frame-ancestors"] == policy["base-uri"] == ["'none'"], where
    assert policy["script-src"] == ["'self'"], where
    assert "unsafe" not in answer.headers["Content-Security-Policy"], where
    check_other_headers(answer, where)


def check_other_headers(answer: HttpResponse, where: str) -> None:
    expected = {
        "X-Frame-Options": "DENY",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
    }
    assert {name: answer.headers.get(name) for name in expected} == expected, where


def test_nothing_is_changed_without_the_pages_token(make_world):
    world = make_world(enforce_csrf_checks=True)
    client = world.client("staff")
    found = {}
    for method, route in CHANGING:
        body = "{}" if route.startswith("/api/") else ""
        kind = "application/json" if body else "application/x-www-form-urlencoded"
        answer = client.generic(method, world.address(route), body, kind)
        found[method, route] = answer.status_code
        check_headers(answer, route)

    assert {row for row, status in found.items() if status != 403} == {("POST", HARVESTERS)}
    assert len(found) > 60


def test_each_form_that_posts_has_the_token(make_world):
    world = make_world()
    forms = 0
    for route in READING:
        answer = world.client("owner").get(world.address(route))
        if answer.streaming or not answer["Content-Type"].startswith("text/html"):
            continue
        for form in re.findall(r'<form[^>]*method="post".*?</form>', answer.text, re.DOTALL):
            assert FIELD in form, route
            forms += 1

    assert forms > 20


def test_every_answer_says_what_a_browser_may_do_with_it(make_world):
    world = make_world()
    for route in READING:
        answer = world.client("owner").get(world.address(route))
        if route.startswith("/bundles/") and route.endswith(SANDBOXED):
            assert answer.headers["Content-Security-Policy"] == REPORT_POLICY, route
            policy = policy_of(answer)
            assert policy["default-src"] == policy["frame-ancestors"] == ["'none'"]
            assert policy["sandbox"] == []
            assert "script-src" not in policy
            check_other_headers(answer, route)
            continue
        check_headers(answer, route)
        if not answer.streaming and answer["Content-Type"].startswith("text/html"):
            assert Page(answer.text).inline == [], route


@pytest.mark.parametrize(
    ("address", "asked", "status"),
    [
        ("/nothing/", {}, 404),
        ("/runs", {}, 301),
        ("/", {"HTTP_HOST": "evil.example"}, 400),
        ("/metrics", {}, 403),
        ("/account/", {}, 302),
        ("/static/portal/css/base.css", {}, 200),
        ("/admin/login/", {}, 200),
        ("/api/v1/nothing/", {}, 404),
        ("/api/v1/datasets/?page=x", {}, 400),
        ("/recipes/", {"CONTENT_LENGTH": str(LARGEST_BODY + 1)}, 413),
        ("/api/v1/runs/", {"CONTENT_LENGTH": str(LARGEST_BODY + 1)}, 413),
    ],
)
def test_refusals_and_files_say_it_too(client, address, asked, status):
    answer = client.get(address, REMOTE_ADDR="192.0.2.1", **asked)

    assert answer.status_code == status
    check_headers(answer, address)


def test_over_https_cookies_stay_on_it_and_the_deploy_check_is_clean(tmp_path):
    code = """
import django; django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
from django.contrib.auth.models import User
from django.test import Client
User.objects.create_user("ada", password="a long enough one")
client = Client(SERVER_NAME="localhost", HTTP_X_FORWARDED_PROTO="https", REMOTE_ADDR="192.0.2.1")
page = client.get("/login/")
client.post("/login/", {"username": "ada", "password": "a long enough one"})
for name, one in client.cookies.items():
    print(name, one["secure"], one["httponly"], one["samesite"])
print(page["Strict-Transport-Security"])
print(Client(SERVER_NAME="localhost").get("/login/?a=b")["Location"])
call_command("check", deploy=True, fail_level="WARNING")
"""
    environment = {
        **os.environ,
        "IMAGINGX_HTTPS": "1",
        "IMAGINGX_STATE_DIR": str(tmp_path),
        "DJANGO_SETTINGS_MODULE": "portal.settings",
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    *cookies, strict, moved, checked = done.stdout.strip().splitlines()
    assert sorted(cookies) == ["csrftoken True True Lax", "sessionid True True Lax"]
    assert strict == "max-age=31536000; includeSubDomains; preload"
    assert moved == "https://localhost/login/?a=b"
    assert "no issues" in checked


ELSEWHERE = [
    "https://evil.example/",
    "//evil.example/",
    "///evil.example/",
    "/\\evil.example/",
    "\\\\evil.example/",
    "/\t/evil.example/",
    "http:///evil.example/",
    "https:evil.example",
    "javascript:alert(1)",
    "data:text/html,x",
    "\x00//evil.example/",
    "https://testserver@evil.example/",
    "http://testserver.evil.example/",
]


def _leads_away(answer: HttpResponse) -> bool:
    """As a browser reads it: a backslash is a slash, tabs and line ends are nothing."""
    location = re.sub(r"[\x00-\x20]", "", answer.headers.get("Location", "/")).replace("\\", "/")
    return not re.match(r"(/(?!/)|\?|#|http://testserver/)", location)


@pytest.mark.parametrize("there", ELSEWHERE)
def test_signing_in_and_out_leads_nowhere_else(client, there):
    User.objects.create_user("ada", password="a long enough one", is_staff=True)
    words = {"username": "ada", "password": "a long enough one", "next": there}

    for address in ("/login/", "/admin/login/"):
        answer = client.post(address, words, query_params={"next": there})
        assert answer.status_code == 302, address
        assert not _leads_away(answer), answer["Location"]
        answer = client.post("/logout/", {"next": there}, query_params={"next": there})
        assert answer.status_code == 302
        assert not _leads_away(answer), answer["Location"]


def test_no_address_leads_where_its_question_says(make_world):
    world = make_world()
    there = dict.fromkeys(("next", "url", "to", "return", "redirect", "continue"), ELSEWHERE[0])
    for route in READING:
        answer = world.client("owner").get(world.address(route), there)
        assert not _leads_away(answer), (route, answer["Location"])


def test_a_path_of_two_slashes_is_no_other_host(client):
    answer = client.get("/", PATH_INFO="//evil.example/datasets")

    assert answer.status_code in {301, 404}
    assert not _leads_away(answer)


def test_another_host_that_a_proxy_names_is_not_believed(client):
    answer = client.get("/robots.txt", HTTP_X_FORWARDED_HOST="evil.example")

    assert answer.status_code == 200
    assert "evil.example" not in answer.text


# Limits of what is sent.


@pytest.mark.parametrize("who", ["anonymous", "owner"])
def test_a_large_body_is_refused_before_it_is_read(make_world, who):
    world = make_world()
    too_much = b"x" * (LARGEST_BODY + 1)
    for method, route in CHANGING:
        if route.startswith("/uploads/") or "/uploads/<" in route:
            continue  # of files; see below
        answer = world.client(who).generic(method, world.address(route), too_much)
        assert answer.status_code == 413, route


def test_uploads_end_at_their_own_limits(make_world, settings):
    settings.UPLOAD_BYTES = 1000
    world = make_world()
    client = world.client("owner")
    before = Upload.objects.count()

    def announce(size: int) -> int:
        body = json.dumps({"name": "big", "files": [{"path": "a.dcm", "bytes": size}]})
        return client.post("/api/v1/uploads/", body, "application/json").status_code

    assert announce(1001) == 422
    form = {"name": "big", "files": io.BytesIO(b"x" * 1001)}
    form["files"].name = "a.dcm"
    assert client.post("/uploads/", form).status_code == 422
    assert client.post("/uploads/", CONTENT_LENGTH=str(2 * LARGEST_BODY)).status_code == 413
    assert Upload.objects.count() == before
    part = world.address("/api/v1/uploads/<uuid:upload_id>/files/<int:number>/")
    kind, offset = "application/offset+octet-stream", {"Upload-Offset": "0"}
    assert client.patch(part, b"x" * 10, kind, headers=offset).status_code == 422  # 9 announced
    assert client.patch(part, b"x" * 9, kind, headers=offset).status_code == 204


@pytest.mark.parametrize("depth", [100, 50_000])
def test_deep_and_wide_bodies_are_refused_in_words(client, depth):
    deep = "[" * depth + "]" * depth
    for address in ("/api/v1/runs/", "/api/v1/recipes/validate/", "/api/v1/rules/"):
        answer = client.post(address, f'{{"recipe": {deep}}}', "application/json")
        assert 400 <= answer.status_code < 500, address
    assert client.post("/recipes/start/", {"recipe": deep}).status_code == 422
    wide = {f"field{n}": "" for n in range(1001)}
    assert client.post("/recipes/start/", wide).status_code == 400


@pytest.mark.parametrize("word", ["²", "9" * 40, "-1", "1e9", "\x00", "٣"])
def test_numbers_that_are_none_break_nothing(make_world, word):
    world = make_world()
    client = world.client("curator")
    sent = [
        client.post("/harvests/decide/", {"change": word, "decision": "accept"}),
        client.post(world.address("/runs/<uuid:run_id>/notices/"), {"remove": word}),
        *(client.get(f"{page}?page={word}") for page in ("/datasets/", "/runs/", "/bundles/")),
        client.get(f"/api/v1/datasets/?page_size={word}"),
        client.get("/datasets/", {"year_min": word, "q": word}),
        client.post(
            "/api/v1/catalog/changes/decide/",
            {"changes": [word], "ids": [word], "decision": "accept"},
            "application/json",
        ),
        *(
            client.get(route.replace("<int:number>", word))
            for route in READING
            if route.startswith(("/versions/<int", "/api/v1/catalog/versions/<int"))
        ),
        client.get(f"/api/v1/catalog/harvests/{word}/"),
    ]

    assert [one.status_code for one in sent if one.status_code >= 500] == []


# What is written to the log stays one line, whatever others send.

EVIL = "a\r\n2026-01-01 00:00:00,000 ERROR root all is well\x1b[2J\x1b]0;title\x07\x85\u2028b"
LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ [\w.]+ .*")


@pytest.fixture
def lines():
    """What the two forms of log make of everything that is logged in a test."""
    kept = []
    for formatter in (OneLine(), JsonLine()):
        handler = logging.StreamHandler(io.StringIO())
        handler.setFormatter(formatter)
        handler.addFilter(AddFields())
        logging.getLogger().addHandler(handler)
        kept.append(handler)
    yield lambda: [handler.stream.getvalue() for handler in kept]
    for handler in kept:
        logging.getLogger().removeHandler(handler)


def test_nobody_writes_lines_of_ones_own_into_the_log(make_world, lines, caplog):
    caplog.set_level(logging.INFO)
    world = make_world()
    client = world.client("owner")
    run = Run.objects.get()
    client.get(f"/{EVIL}/")
    client.get("/nothing/", {"q": EVIL}, headers={"X-Request-ID": EVIL, "User-Agent": EVIL})
    client.generic(f"GET{EVIL}", "/")
    client.get("/", HTTP_HOST=EVIL)
    client.post("/login/", {"username": EVIL, "password": EVIL})
    client.post("/recipes/start/", {"recipe": EVIL})
    client.get("/api/v1/datasets/", {"q": EVIL, EVIL: EVIL})
    client.get("/api/v1/datasets/", headers={"Authorization": f"Bearer {EVIL}"})
    with pytest.raises(NoticeError):
        ask_for(run, run.owner, "hook", f"https://example.org/{EVIL}", "/")
    logging.getLogger("workers").warning("case %s: %s", EVIL, EVIL)
    try:
        raise ValueError(EVIL)  # noqa: TRY301
    except ValueError:
        logging.getLogger("workers").exception("fault")

    plain, structured = lines()
    assert plain.count("all is well") > 3
    for text in (plain, structured):
        assert re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]", text) is None
    rows = [row for row in plain.splitlines() if not row.startswith((" ", "Traceback"))]
    assert [row for row in rows if not LINE.fullmatch(row)] == []
    assert not any(row.startswith("2026-01-01") for row in rows)
    assert all(json.loads(row)["level"] for row in structured.splitlines())
    answered = [json.loads(row) for row in structured.splitlines() if "Not Found" in row]
    assert all(re.fullmatch("[0-9a-f]{32}", row["request"]) for row in answered)
    assert len(answered) > 1

"""Which bytes an answer has: pure, one case a line."""

from __future__ import annotations

import pytest

from portal.api.ranges import Answer, Span, decide

TAG = '"abc"'
WHOLE = Answer(200, Span(0, 1000, 1000))


def part(start: int, stop: int) -> Answer:
    return Answer(206, Span(start, stop, 1000))


@pytest.mark.parametrize(
    ("headers", "answer"),
    [
        ({}, WHOLE),
        ({"Range": "bytes=0-99"}, part(0, 100)),
        ({"Range": "bytes=990-"}, part(990, 1000)),
        ({"Range": "bytes=-10"}, part(990, 1000)),
        ({"Range": "bytes=-5000"}, part(0, 1000)),
        ({"Range": "bytes=900-5000"}, part(900, 1000)),
        ({"Range": "Bytes = 5-5"}, part(5, 6)),
        ({"Range": "bytes=1000-"}, Answer(416, None)),
        ({"Range": "bytes=-0"}, Answer(416, None)),
        ({"Range": "bytes=99-0"}, WHOLE),
        ({"Range": "bytes=0-1,5-6"}, WHOLE),
        ({"Range": "bytes=-"}, WHOLE),
        ({"Range": "items=0-5"}, WHOLE),
        ({"Range": "bytes=0-x"}, WHOLE),
        ({"Range": "bytes=0-9", "If-Range": TAG}, part(0, 10)),
        ({"Range": "bytes=0-9", "If-Range": '"old"'}, WHOLE),
        ({"Range": "bytes=0-9", "If-Range": f"W/{TAG}"}, WHOLE),
        ({"Range": "bytes=0-9", "If-Range": "Tue, 24 Nov 2026 09:00:00 GMT"}, WHOLE),
        ({"If-None-Match": TAG}, Answer(304, None)),
        ({"If-None-Match": f'"x", W/{TAG}'}, Answer(304, None)),
        ({"If-None-Match": "*"}, Answer(304, None)),
        ({"If-None-Match": '"x"'}, WHOLE),
        ({"If-None-Match": TAG, "Range": "bytes=0-9"}, Answer(304, None)),
        ({"If-Match": '"x"'}, Answer(412, None)),
        ({"If-Match": TAG}, WHOLE),
        ({"If-Match": f"W/{TAG}"}, Answer(412, None)),
    ],
)
def test_a_request_is_answered_as_the_standard_says(headers, answer):
    assert decide(headers, TAG, 1000) == answer


def test_an_empty_file_has_no_range():
    assert decide({"Range": "bytes=0-"}, TAG, 0) == Answer(416, None)
    assert decide({}, TAG, 0) == Answer(200, Span(0, 0, 0))

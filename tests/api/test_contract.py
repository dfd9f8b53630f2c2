"""The running API answers as its schema says, to requests that are made from the schema."""

from __future__ import annotations

from uuid import uuid4

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings, strategies
from schemathesis.specs.openapi.checks import (
    ensure_resource_availability,
    ignored_auth,
    missing_required_header,
    positive_data_acceptance,
    unsupported_method,
    use_after_free,
)

from catalog.curation import propose
from catalog.models import CatalogRevision, Dataset
from catalog.refresh import begin
from tests.factories import make_run
from tests.viewed import make_viewed

EXAMPLES = 8
#: What the schema cannot say: whether a slug, a recipe or a run is there, and that a
#: request is refused for its meaning. Sign-in is optional, and OPTIONS is answered.
NOT_ASKED = [
    positive_data_acceptance,
    ensure_resource_availability,
    use_after_free,
    ignored_auth,
    missing_required_header,
    unsupported_method,
]


@schemathesis.serializer("application/offset+octet-stream")
def part_of_a_file(_context, value):
    return value if isinstance(value, bytes) else str(value).encode()


@pytest.mark.slow
@pytest.mark.usefixtures("datasets")
def test_every_operation_keeps_to_the_schema(live_server, tmp_path):
    there = {"run_id": str(make_run().pk), "slug": "first-fundus", "name": "HF_TOKEN"}
    there |= {"bundle_id": make_viewed(tmp_path).pk, "case_id": "known", "path": "README.md"}
    there |= {"upload_id": str(uuid4()), "notice_id": 1}  # these are their owner's alone
    correction, _ = propose(
        Dataset.objects.get(slug="first-fundus"), "year", 2012, url="https://x.org/", quote="x"
    )
    there["correction_id"] = str(correction.pk)
    there["search_id"] = 1  # its owner's alone
    there["figure"] = "modality"
    there["harvest_id"] = begin("idc").pk
    there["number"] = CatalogRevision.objects.create(digest="d" * 64, dataset_count=3).number
    schema = schemathesis.openapi.from_url(
        f"{live_server.url}/api/v1/schema/",
        headers={"Accept": "application/vnd.oai.openapi+json"},
    )
    asked: list[int] = []
    failed = []
    for found in schema.get_all_operations():
        operation = found.ok()

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(), is_there=strategies.booleans())
        def ask(case, is_there):
            if is_there and case.meta.generation.mode.is_positive:
                case.path_parameters.update({k: there[k] for k in case.path_parameters})
            answer = case.call_and_validate(excluded_checks=NOT_ASKED)
            asked.append(answer.status_code)

        try:
            ask()
        except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - told below
            failed.append(f"{operation.label}: {error!r} {getattr(error, 'exceptions', '')}"[:1500])

    assert not failed, "\n\n".join(failed)
    assert len(asked) > 100
    assert {200, 202, 404} <= set(asked)

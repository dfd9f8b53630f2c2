"""compose.yaml and the Kubernetes manifests: valid by schema, and in step with the product.

compose-spec.json is the schema of the Compose Specification (github.com/compose-spec/compose-go,
Apache-2.0).
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from django.urls import resolve
from jsonschema import Draft202012Validator

from portal.settings import env
from tests.conftest import ROOT
from workers.process import QUEUES

MANIFESTS = sorted((ROOT / "deploy" / "kubernetes").glob("*.yaml"))
KUBERNETES = "1.32"
SECRETS = (
    "IMAGINGX_SECRET_KEY",
    "IMAGINGX_CREDENTIAL_KEYS",
    "IMAGINGX_DATABASE_URL",
    "IMAGINGX_S3_SECRET_ACCESS_KEY",
)


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "compose.yaml").read_text())


def objects() -> list[dict[str, Any]]:
    return [
        one
        for path in MANIFESTS
        for one in yaml.safe_load_all(path.read_text())
        if one["kind"] != "Kustomization"
    ]


def containers() -> Iterator[dict[str, Any]]:
    for one in objects():
        template = one.get("spec", {}).get("template", {})
        yield from template.get("spec", {}).get("containers", [])


def test_the_compose_file_is_valid(compose: dict[str, Any]):
    schema = json.loads((Path(__file__).parent / "compose-spec.json").read_text())
    errors = [error.message for error in Draft202012Validator(schema).iter_errors(compose)]

    assert errors == []


def test_what_compose_refers_to_is_there(compose: dict[str, Any]):
    services, volumes = compose["services"], compose["volumes"]
    for name, service in services.items():
        assert set(service.get("depends_on", {})) <= set(services), name
        mounted = {str(one).split(":")[0] for one in service.get("volumes", [])}
        assert {one for one in mounted if re.fullmatch(r"[a-z0-9]+", one)} <= set(volumes), name
        waited_for = {
            other
            for other, how in service.get("depends_on", {}).items()
            if how["condition"] == "service_healthy"
        }
        assert all("healthcheck" in services[other] for other in waited_for), name


def test_compose_sets_only_variables_that_the_portal_reads(compose: dict[str, Any]):
    for name, service in compose["services"].items():
        if "imagingx-portal" in service["image"]:
            assert set(service["environment"]) <= set(env.VARIABLES), name


def test_no_password_gets_into_the_image_or_the_repository():
    assert ".env*" in (ROOT / ".dockerignore").read_text().splitlines()
    assert "/.env*" in (ROOT / ".gitignore").read_text().splitlines()


def test_containers_are_given_every_key_that_each_would_make_for_itself(compose: dict[str, Any]):
    made = {name for name, one in env.VARIABLES.items() if "one is made and kept" in one.meaning}
    assert made

    for name, service in compose["services"].items():
        if "imagingx-portal" in service["image"]:
            assert made <= set(service["environment"]), name
    assert made <= set(SECRETS)  # which the comment of the ConfigMap asks for


def test_the_healthcheck_of_the_web_asks_by_a_name_that_stays_allowed(compose: dict[str, Any]):
    web = compose["services"]["web"]
    asked = re.search(r"http://([\w.]+):8000/healthz", json.dumps(web["healthcheck"]))

    allowed = re.sub(r"\$\{[^}]*\}", "", web["environment"]["IMAGINGX_ALLOWED_HOSTS"])
    assert asked
    assert asked[1] in allowed.split(",")


@pytest.mark.parametrize("torch", ["cpu", "cuda"])
def test_the_image_takes_torch_alone_from_the_other_index(torch: str, tmp_path: Path):
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    (line,) = re.findall(r"^RUN (.*pip install.*)$", text, re.MULTILINE)
    pip = tmp_path / "pip"
    pip.write_text(
        '#!/bin/sh\necho "$@" >>asked\nfor last; do :; done\ncat "$last" >>read\nexit 0\n'
    )
    pip.chmod(0o755)
    (tmp_path / "requirements.txt").write_text((ROOT / "requirements.txt").read_text())
    variables = {"TORCH": torch, "TORCH_CPU_INDEX": "https://other", "PATH": f"{tmp_path}:/bin"}
    line = line.replace("/tmp/", f"{tmp_path}/")  # noqa: S108
    subprocess.run(["sh", "-c", line], cwd=tmp_path, env=variables, check=True)

    asked = (tmp_path / "asked").read_text().splitlines()
    pinned = re.findall(r"^([\w-]+)==", (tmp_path / "read").read_text(), re.MULTILINE)
    other = [one for one in asked if "https://other" in one]
    everything = re.findall(r"^([\w-]+)==", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    if torch == "cuda":
        assert (other, pinned) == ([], everything)
        return
    assert len(other) == 1
    assert re.search(r" torch==[\d.]+\+cpu$", other[0])
    gone = set(everything) - set(pinned)
    assert {"torch", "triton"} <= gone
    assert all(re.match("torch$|triton$|nvidia-|cuda-", one) for one in gone)


def test_compose_holds_no_secret(compose: dict[str, Any]):
    for name, service in compose["services"].items():
        for variable, value in service.get("environment", {}).items():
            if variable in SECRETS or re.search("PASSWORD|SECRET|ACCESS_KEY", variable):
                assert re.search(r"\$\{\w+:\?", value), f"{name}: {variable}"


@pytest.mark.parametrize("manifest", objects(), ids=lambda one: f"{one['kind']}-{_name(one)}")
def test_a_manifest_is_valid(manifest: dict[str, Any]):
    kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_every_manifest_is_listed():
    (listed,) = (yaml.safe_load(p.read_text()) for p in MANIFESTS if p.stem == "kustomization")
    assert {p.name for p in MANIFESTS} - {"kustomization.yaml"} == set(listed["resources"])


def test_manifests_set_only_variables_that_the_portal_reads():
    settings = next(one for one in objects() if one["kind"] == "ConfigMap")["data"]
    single = {row["name"] for one in containers() for row in one.get("env", [])}

    assert set(settings) | single <= set(env.VARIABLES)
    assert not set(settings) & set(SECRETS)
    comment = (ROOT / "deploy" / "kubernetes" / "settings.yaml").read_text()
    for secret in SECRETS:
        assert secret in comment


def test_workers_take_queues_that_exist_and_together_all(compose: dict[str, Any]):
    commands = [" ".join(one.get("command", [])) for one in containers()]
    taken = [re.search(r"--queues (\S+)", one) for one in commands]
    assert {queue for one in taken if one for queue in one[1].split(",")} == set(QUEUES)

    default = compose["services"]["worker"]["command"].split(":-")[1].rstrip("}")
    assert set(default.split(",")) == set(QUEUES)


def test_one_beat_says_what_is_due_and_may_write_its_schedule(compose: dict[str, Any]):
    (beat,) = (one for one in objects() if _name(one) == "imagingx-beat")
    pod = beat["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    told = compose["services"]["beat"]
    mounts = [one["mountPath"] for one in container["volumeMounts"]]

    assert beat["spec"]["replicas"] == 1
    assert " ".join(container["command"]) == told["command"]
    schedule = Path(container["command"][container["command"].index("--schedule") + 1])
    assert str(schedule.parent) in mounts
    assert str(schedule.parent) in told["volumes"]


def test_web_and_workers_see_one_folder_of_uploads(compose: dict[str, Any]):
    for name in ("web", "worker", "worker-gpu"):
        service = compose["services"][name]
        folder = service["environment"]["IMAGINGX_UPLOAD_DIR"]
        assert f"uploads:{folder}" in service["volumes"], name
    assert f"/{Path(folder).name}" in (ROOT / "Dockerfile").read_text()
    settings = next(one for one in objects() if one["kind"] == "ConfigMap")["data"]
    claims = {_name(one): one for one in objects() if one["kind"] == "PersistentVolumeClaim"}
    pods = [
        one["spec"]["template"]["spec"]
        for one in objects()
        if _name(one) in {"imagingx-web", "imagingx-worker", "imagingx-worker-gpu"}
        and one["kind"] == "Deployment"
    ]
    assert len(pods) == 3
    for pod in pods:
        (mount,) = (
            row for row in pod["containers"][0]["volumeMounts"]
            if row["mountPath"] == settings["IMAGINGX_UPLOAD_DIR"]
        )  # fmt: skip
        (volume,) = (row for row in pod["volumes"] if row["name"] == mount["name"])
        claim = claims[volume["persistentVolumeClaim"]["claimName"]]
        assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
        assert not mount.get("readOnly")


def test_a_stop_leaves_the_web_more_time_than_its_answers_get(compose: dict[str, Any]):
    graceful = re.search(r'"--graceful-timeout", "(\d+)"', (ROOT / "Dockerfile").read_text())

    assert graceful
    assert int(compose["services"]["web"]["stop_grace_period"].rstrip("s")) > int(graceful[1])


def test_probes_ask_for_pages_that_exist(compose: dict[str, Any]):
    text = json.dumps([*containers(), compose["services"]["web"]["healthcheck"]])
    paths = set(re.findall(r"/(?:healthz|readyz)\b", text))

    assert paths == {"/healthz", "/readyz"}
    assert all(resolve(path) for path in paths)


def _name(one: dict[str, Any]) -> str:
    return str(one["metadata"]["name"])

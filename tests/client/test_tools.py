"""A model's session with the server of tools: a real client over stdio, a running portal."""

from __future__ import annotations

import os
import sys

import anyio
import pytest
from mcp.client.client import Client as Session
from mcp.client.stdio import StdioServerParameters, stdio_client

from tests.conftest import ROOT
from workers.models import Run


def ask(url: str, *calls: tuple[str, dict]) -> tuple[set[str], str, list]:
    """The names of the tools, the server's instructions, and the answer to each call."""

    async def session() -> tuple[set[str], str, list]:
        server = StdioServerParameters(
            command=sys.executable,
            args=["-m", "imagingx", "--url", url, "mcp"],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"]},
        )
        async with Session(stdio_client(server)) as client:
            tools = await client.list_tools()
            answers = [await client.call_tool(name, given) for name, given in calls]
            return {tool.name for tool in tools.tools}, client.instructions or "", answers

    return anyio.run(session)


def test_a_session_finds_judges_and_starts(portal):
    slugs = ["first-fundus", "second-fundus"]
    names, instructions, answers = ask(
        portal.url,
        ("catalog_version", {}),
        ("facets", {"text": "fundus"}),
        ("search", {"text": "fundus", "filters": {"licence": ["CC-BY-4.0"]}}),
        ("explain", {"text": "fundus", "slug": "second-fundus"}),
        ("dataset", {"slug": "first-fundus", "evidence": True}),
        ("compare", {"slugs": slugs}),
        ("blueprint", {"slugs": slugs}),
        ("licences", {"slugs": slugs}),
        ("citations", {"slugs": slugs, "style": "bibtex"}),
        ("recipes", {}),
        ("start_run", {"example": "brain-tissue"}),
        ("search", {"filters": {"task": ["Segmentatoin"]}}),
        ("acquisition", {"slug": "first-fundus"}),
    )

    told = [answer.structured_content for answer in answers]
    assert [answer.is_error for answer in answers] == [False] * 11 + [True, False]
    assert {"search", "start_run", "run_status"} <= names
    assert "near" in instructions
    assert told[0]["datasets"] == 4
    assert told[1]["licence"]["CC-BY-4.0"] == 1
    assert [hit["slug"] for hit in told[2]["results"]] == ["first-fundus"]
    assert told[2]["near"][0]["differs"]
    assert (told[3]["found"], told[3]["slug"]) == ("strict", "second-fundus")
    assert told[4]["record"]
    assert told[6]["rules"]
    assert told[7]["first-fundus"]["licence"] == "CC-BY-4.0"
    assert told[7]["second-fundus"]["licence"] in {None, ""}
    assert told[8]["first-fundus"].startswith("@")
    assert "brain-tissue" in told[9]
    assert told[12]["steps"]
    assert told[12]["bytes"] is None
    assert told[10]["id"] == str(Run.objects.get().pk)
    assert "Segmentation" in answers[11].content[0].text  # the nearest valid value

    _, _, (status,) = ask(portal.url, ("run_status", {"run_id": told[10]["id"]}))
    assert status.structured_content["state"] == "queued"


@pytest.mark.parametrize("given", [{}, {"example": "x", "recipe": {}}])
def test_a_start_without_one_recipe_starts_nothing(portal, given):
    _, _, (answer,) = ask(portal.url, ("start_run", given))

    assert answer.is_error
    assert "either example or recipe" in answer.content[0].text
    assert not Run.objects.exists()

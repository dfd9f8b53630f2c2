"""The portal as tools of the Model Context Protocol: `imagingx mcp` serves them over stdio.

Each tool asks the portal's API, so that what is found here is what page, API and command find.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from importlib.resources import files
from typing import Any, ParamSpec

import httpx
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations

from imagingx.client import Client
from imagingx.connection import Json, ProblemError

P = ParamSpec("P")
READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
STARTS = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=True)
MOST = 50


class Tools:
    """Each method is a tool; its docstring is what a model reads of it."""

    def __init__(self, portal: Client) -> None:
        self.portal = portal

    def catalog_version(self) -> Json:
        """Which catalog is asked: its digest and its number of datasets."""
        found = self.portal.statistics()
        return {
            "catalog": found["catalog"],
            "datasets": found["datasets"],
            "portal": self.portal.url,
        }

    def facets(self, text: str = "") -> Json:
        """The facets of a search (modality, anatomy, task, licence, ...) with values and counts.

        Values are canonical: `search` takes them as filters.
        """
        found = self.portal.search(text, limit=1)["facets"]
        return {
            facet["name"]: {o["value"]: o["count"] for o in facet["options"] if o["count"]}
            for facet in found
        }

    def search(
        self,
        text: str = "",
        filters: dict[str, list[str]] | None = None,
        limit: int = 10,
        page: int = 1,
    ) -> Json:
        """Find datasets. `results` satisfy everything; `near` lack what `differs` says.

        Args:
            text: words, "phrases", -exclusions, conditions such as `ct liver > 100 cases`.
            filters: facet -> canonical values (see `facets`); `not_<facet>` excludes.
            limit: results a page, up to 50.
            page: counts from 1.
        """
        found = self.portal.search(text, **(filters or {}), limit=min(limit, MOST), page=page)
        return {key: value for key, value in found.items() if key != "facets"}

    def explain(self, text: str, slug: str = "") -> Json:
        """How a query is understood, and whether and why a dataset is among its results."""
        found = self.portal.search(text, limit=100)
        answer: Json = {key: found[key] for key in ("understood", "did_you_mean", "total")}
        if slug:
            strict = next((hit for hit in found["results"] if hit["slug"] == slug), None)
            near = next((hit for hit in found["near"] if hit["slug"] == slug), None)
            hit = strict or near
            where = "strict" if strict else "near" if near else "not among the first 100"
            answer |= {"slug": slug, "found": where, "hit": hit}
        return answer

    def dataset(self, slug: str, evidence: bool = False) -> Json:
        """The facts of one dataset; with `evidence`, each with its claims and their sources."""
        found = self.portal.dataset(slug)
        return found if evidence else {k: v for k, v in found.items() if k != "record"}

    def compare(self, slugs: list[str]) -> Json:
        """Two to six datasets side by side: fields, shared concepts, overlaps, licence."""
        return self.portal.compare(*slugs)

    def blueprint(self, slugs: list[str], mode: str = "", task: str = "") -> Json:
        """What a fusion of two to six datasets would be, before any image is read.

        Eligibility with reasons, score, overlaps, licence outcome, label alignment, splits.
        """
        return self.portal.blueprint(*slugs, mode=mode, task=task)

    def licences(self, slugs: list[str]) -> Json:
        """Licence of images and labels, access and homepage of each dataset; null is unknown."""
        keys = ("licence", "licence_labels", "access", "homepage")
        return {slug: self.portal.dataset(slug, fields=keys) for slug in slugs[:MOST]}

    def acquisition(
        self, slug: str, subjects: int = 0, modality: str = "", body_part: str = ""
    ) -> Json:
        """How a dataset is got, before anything is fetched; null is unknown.

        Connector, `location` for a recipe, bytes, time, licence, terms to accept (`accept`), the
        credential that is needed (its name alone), and what a person does (`steps`).

        Args:
            slug: of the dataset.
            subjects: only the first so many people; with modality and body_part, as DICOM says,
                of datasets of Imaging Data Commons.
            modality: such as MR.
            body_part: such as BREAST.
        """
        part = {"subjects": subjects, "modality": modality, "body_part": body_part}
        return self.portal.acquisition(slug, **{key: one for key, one in part.items() if one})

    def citations(self, slugs: list[str], style: str = "text") -> Json:
        """How to cite datasets: `text`, `bibtex` or `csl`."""
        return {slug: self.portal.citation(slug, style).strip() for slug in slugs[:MOST]}

    def recipes(self) -> Json:
        """Names and titles of the shipped recipes, any of which `start_run` takes."""
        return {one["name"]: one["title"] for one in self.portal.recipes()}

    def start_run(
        self, example: str = "", recipe: dict[str, Any] | None = None, key: str = ""
    ) -> Json:
        """Start a fusion by the name of a shipped recipe, or by a recipe.

        It takes minutes to hours of the portal's machines: ask the user first. The same recipe
        gives the same run.
        """
        if bool(example) == (recipe is not None):
            raise ToolError("give either example or recipe")
        return _short(self.portal.start(recipe if recipe is not None else example, key=key))

    def run_status(self, run_id: str) -> Json:
        """Where a run stands: state, stages, cases used and excluded, its bundle when done."""
        return _short(self.portal.run(run_id))


def make_server(portal: Client) -> MCPServer[Any]:
    """A server whose tools ask `portal`."""
    skill = files("imagingx").joinpath("SKILL.md").read_text(encoding="utf-8")
    server: MCPServer[Any] = MCPServer(
        "imagingx", instructions=skill.split("---", 2)[-1].strip(), log_level="WARNING"
    )
    tools = Tools(portal)
    for name in vars(Tools):
        if not name.startswith("_"):
            hints = STARTS if name == "start_run" else READS
            server.tool(annotations=hints)(_guarded(getattr(tools, name), portal.url))
    return server


def _guarded(work: Callable[P, Json], url: str) -> Callable[P, Json]:
    """What the portal refuses is told to the model with its reasons."""

    @wraps(work)
    def guarded(*given: P.args, **named: P.kwargs) -> Json:
        try:
            return work(*given, **named)
        except ProblemError as error:
            wrong = "\n".join(str(one.get("message", "")) for one in error.errors)
            raise ToolError(f"{error}\n{wrong}".strip()) from error
        except httpx.TransportError as error:
            raise ToolError(f"{url}: {error}") from error

    return guarded


def _short(run: Json) -> Json:
    return {key: value for key, value in run.items() if key != "quality"}

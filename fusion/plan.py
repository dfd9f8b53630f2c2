"""From a checked recipe to a plan: all that decides a bundle but for its files. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

from catalog import concepts
from catalog.licences import licence
from fusion.errors import BuildError, Problem, RecipeError
from fusion.gates import Gate, judge, own_concepts, ships, spoken_concepts, targets_of
from fusion.recipe import Member, Recipe

#: Raised when the same plan gives other files; part of every bundle id.
BUILDER_VERSION = "0.3"
_PARTS = ("images", "labels")


@dataclass(frozen=True)
class Plan:
    """Everything that decides the bundle's bytes, but for the source files themselves.

    `lock_sha256` is the digest over the source files; a plan without it has not acquired them yet.
    """

    title: str
    about: str
    task: str
    mode: str
    build: str
    seed: int
    dimension: str
    profile: str
    spacing_mm: tuple[float, float, float] | None
    concepts: list[dict[str, Any]]
    sources: list[dict[str, Any]]
    protocol: str
    splits: dict[str, float]
    accept: dict[str, Any]
    views: list[str]
    baseline: dict[str, str]
    channels: list[str]
    gates: list[dict[str, str]]
    overlaps: list[dict[str, str]]
    known_limits: list[str]
    overlap_plan: str | None = None
    official_val: bool = False
    builder_version: str = BUILDER_VERSION
    lock_sha256: str = ""

    @property
    def bundle_id(self) -> str:
        """Digest of the plan and of the source files it was made from."""
        return _digest(asdict(self))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """A plan from what `as_dict` gave, not bound to source files.

        Raises:
            BuildError: plan_changed, when it is not a plan of this builder.
        """
        facts = {key: value for key, value in data.items() if key != "bundle_id"}
        names = {field.name for field in fields(cls)}
        if set(facts) != names or facts["builder_version"] != BUILDER_VERSION:
            found = f"builder {facts.get('builder_version')!r}, keys {sorted(set(facts) ^ names)}"
            raise BuildError(
                "plan_changed", f"plan: found {found}, expected builder {BUILDER_VERSION!r}"
            )
        spacing = facts["spacing_mm"]
        facts["spacing_mm"] = tuple(spacing) if spacing else None
        return cls(**facts | {"lock_sha256": ""})

    def with_lock(self, lock_sha256: str) -> Plan:
        """The plan, bound to source files."""
        return replace(self, lock_sha256=lock_sha256)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        data: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return {"bundle_id": self.bundle_id, **data}

    def concept_ids(self) -> list[str]:
        """Label value v > 0 means the concept at v - 1."""
        return [concept["id"] for concept in self.concepts]


def make_plan(recipe: Recipe) -> Plan:
    """Decide what will be built.

    Raises:
        RecipeError: one problem per eligibility rule that blocks, with the values it saw.
    """
    wanted, channels, overlaps, gates = judge(recipe)
    if blocked := [gate for gate in gates if gate.verdict == "block"]:
        raise RecipeError([Problem(g.code, g.detail, "", f"{g.code}: {g.detail}") for g in blocked])
    first = recipe.sources[0].description
    return Plan(
        title=recipe.title,
        about=recipe.about,
        task=recipe.task,
        mode=recipe.mode,
        build=recipe.build,
        seed=recipe.seed,
        dimension=first.dimension,
        profile=recipe.target.profile,
        spacing_mm=recipe.target.spacing_mm,
        concepts=[concepts.concept(c).as_dict() for c in wanted],
        sources=[_source(recipe, member, wanted, channels) for member in recipe.sources],
        protocol=recipe.splits.protocol,
        splits={name: getattr(recipe.splits, name) for name in ("train", "val", "test")},
        accept=recipe.accept.model_dump(mode="json"),
        views=sorted(recipe.views),
        baseline=recipe.baseline.model_dump(),
        channels=channels,
        gates=[asdict(gate) for gate in gates],
        overlaps=overlaps,
        known_limits=_known_limits(recipe, gates),
        overlap_plan=recipe.overlap_plan,
        official_val=recipe.splits.official_val,
    )


def findings_of(plan: Plan) -> list[dict[str, str]]:
    """What a reader of the bundle must know before any file was read."""
    found = [
        {
            "code": f"overlap_{row['class']}",
            "detail": f"{row['a']} and {row['b']}: {row['kind']}: {row['evidence']}"
            + (f"; accepted: {row['plan']}" if row["plan"] else ""),
        }
        for row in plan.overlaps
    ]
    for source in plan.sources:
        stated = source["description"]["licence"]
        for part, terms in source["licence_result"].items():
            if not licence(stated[part]).known:
                detail = f"{source['id']}: licence of {part}: {stated[part] or 'none stated'}"
                found.append({"code": "licence_unknown", "detail": detail})
            if not terms["redistribute"] or source["ships"][part] == "recipe":
                detail = f"{source['id']}: {part} may not be passed on"
                found.append({"code": "recipe_only", "detail": detail})
    found += [
        {"code": "licence_conflict", "detail": gate["detail"].removeprefix("licence_conflict: ")}
        for gate in plan.gates
        if gate["detail"].startswith("licence_conflict: ")
    ]
    known = {"E10": "class_confounded", "E11": "subjects_unknown", "E12": "face_unattested"}
    return found + [
        {
            "code": known[gate["code"]],
            "detail": gate["detail"].removeprefix(f"{known[gate['code']]}: "),
        }
        for gate in plan.gates
        if gate["code"] in known and (gate["verdict"] == "accepted" or gate["code"] == "E11")
    ]


def _source(
    recipe: Recipe, member: Member, wanted: list[str], channels: list[str]
) -> dict[str, Any]:
    description = member.description.model_dump(mode="json", by_alias=True)
    known = recipe.known_facts.get(member.id)
    terms = {part: licence(getattr(member.description.licence, part)) for part in _PARTS}
    own = own_concepts(member, recipe.task)
    mapping = {c: next(iter(targets_of(c, wanted)), None) for c in own}
    return {
        "id": member.id,
        "dataset": member.dataset,
        "catalog": known.model_dump(mode="json") if known else None,
        "location": member.location.model_dump(mode="json"),
        "description": description,
        "annotated": [w for w in wanted if w in spoken_concepts(member, recipe.task)],
        "mapping": mapping,
        "uses": member.uses(recipe.task),
        "channels": channels if member.description.cases.channels else [],
        "ships": ships(recipe.build, recipe.target.profile, terms["images"], terms["labels"]),
        "licence_result": {part: asdict(t) for part, t in terms.items()},
    }


def _known_limits(recipe: Recipe, gates: list[Gate]) -> list[str]:
    limits = [f"{g.code}: {g.detail}" for g in gates if g.verdict in {"accepted", "warn"}]
    limits += [f"{m.id}: {limit}" for m in recipe.sources for limit in m.description.known_limits]
    if recipe.splits.protocol == "loso":
        limits.append("Leave one source out: each source is tested by a model that never saw it.")
    return limits


def _digest(data: dict[str, Any]) -> str:
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()

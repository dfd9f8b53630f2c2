"""Every eligibility rule of a checked recipe, and which concepts meet in it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from catalog import concepts
from catalog.licences import Licence, combine, licence
from fusion.recipe import Member, Recipe
from fusion.source import ClassLabels, Layer, SourceDescription, concepts_in

#: Unit that the voxels of a modality have unless a source says otherwise.
UNITS = {"CT": "hu"}
#: A source that speaks of these, or of their parts, shows heads.
HEAD = frozenset({"head", "brain", "face", "skull"})
_PARTS = ("images", "labels")
#: What a recipe may say where a source lacks such labels.
_CONVERT = {
    "classes": "convert: presence makes classes",
    "boxes": "convert: box makes boxes",
}


@dataclass(frozen=True)
class Gate:
    """One eligibility rule with its verdict: pass, warn, accepted or block."""

    code: str
    verdict: str
    detail: str


def gates_of(recipe: Recipe) -> list[Gate]:
    """Every eligibility rule of a checked recipe with its verdict, those that block among them."""
    return judge(recipe)[-1]


def label_gates(recipe: Recipe) -> list[Gate]:
    """Rule E05 alone: what meets, what collides and whose protocols differ."""
    wanted, gates = _common_concepts(recipe)
    return [*gates, *_composites(recipe, wanted), *_protocols(recipe, wanted)]


def judge(recipe: Recipe) -> tuple[list[str], list[str], list[dict[str, str]], list[Gate]]:
    """Concepts, channels and overlaps of the bundle, and the gates of every rule."""
    wanted, common = _common_concepts(recipe)
    overlaps, overlap_gates = _overlaps(recipe)
    channels, channel_gates = _channels(recipe)
    gates = [
        *_same_kind(recipe),
        *channel_gates,
        *_differences(recipe),
        *common,
        *_composites(recipe, wanted),
        *_protocols(recipe, wanted),
        *overlap_gates,
        *_units(recipe),
        *_places(recipe),
        *_licences(recipe),
        *_subjects(recipe),
        *_confounded(recipe, wanted),
        *_safety(recipe),
        *_pseudo(recipe),
    ]
    return wanted, channels, overlaps, gates


def targets_of(concept_id: str, wanted: list[str]) -> list[str]:
    """The wanted concepts that a voxel of `concept_id` belongs to."""
    return [w for w in wanted if w == concept_id or w in concepts.ancestors(concept_id)]


def own_concepts(member: Member, task: str) -> list[str]:
    """Concepts that the labels in use speak of directly."""
    is_masks = bool(task) and member.uses(task) != "classes"
    described = _in_use(member, task) if task == "detection" else member.description
    return described.concepts("segmentation" if is_masks else task)


def spoken_concepts(member: Member, task: str) -> set[str]:
    """Concepts that somebody looked for in this source, by masks or by classes as the task asks."""
    own = own_concepts(member, task)
    above = {a for c in own for a in concepts.ancestors(c)}
    return {*own, *(c for c in member.description.covers if c in above)}


def _common_concepts(recipe: Recipe) -> tuple[list[str], list[Gate]]:
    """The label set of the bundle, in a stable order, and rule E05."""
    spoken = {m.id: spoken_concepts(m, recipe.task) for m in recipe.sources}
    wanted = recipe.concepts or common_concepts(list(spoken.values()), recipe.mode)
    wanted = list(dict.fromkeys(wanted))
    gates = []
    if not wanted:
        seen = "; ".join(f"{i}: {', '.join(sorted(c)) or 'none'}" for i, c in spoken.items())
        gates.append(Gate("E05", "block", f"the sources have no concept in common ({seen})"))
    for member in recipe.sources:
        lacking = [w for w in wanted if w not in spoken[member.id]]
        if lacking and (recipe.mode == "intersection" or len(lacking) == len(wanted)):
            gates.append(
                Gate(
                    "E05",
                    "block",
                    f"source {member.id} has no {', '.join(lacking)}; it has "
                    f"{', '.join(sorted(spoken[member.id]))} (list a parent whose parts are all "
                    "annotated under `covers`)",
                )
            )
        gates += [
            Gate(
                "E05",
                "block",
                f"label_collision: {member.id}'s {concept} would be {' and '.join(targets)};"
                " at once: ask for one of them",
            )
            for concept in own_concepts(member, recipe.task)
            if len(targets := targets_of(concept, wanted)) > 1
        ]
    gates = gates or [Gate("E05", "pass", f"common concepts: {', '.join(wanted)}")]
    return wanted, gates + _left_to_background(recipe, wanted)


def _left_to_background(recipe: Recipe, wanted: list[str]) -> list[Gate]:
    """A union that nobody spelled out leaves out what lies above a finer concept: say so."""
    if recipe.concepts or recipe.mode != "union":
        return []
    return [
        Gate(
            "E05",
            "warn",
            f"{member.id}: {concept} lies above {', '.join(below)} and becomes background there; "
            "list it under `concepts` to keep it instead",
        )
        for member in recipe.sources
        for concept in own_concepts(member, recipe.task)
        if not targets_of(concept, wanted)
        and (below := [w for w in wanted if concept in concepts.ancestors(w)])
    ]


def _in_use(member: Member, task: str) -> SourceDescription:
    return member.description.in_use(member.uses(task), [])


def _composites(recipe: Recipe, wanted: list[str]) -> list[Gate]:
    """Rule E05: a value that means several concepts has room for one of them, in a box as well."""
    gates = []
    for member in recipe.sources if recipe.task != "classification" else ():
        for meaning in _in_use(member, recipe.task).meanings():
            parts = concepts_in([meaning])
            targets = sorted({t for part in parts for t in targets_of(part, wanted)})
            if len(parts) > 1 and len(targets) > 1:
                detail = f"{member.id}'s {meaning} would be {' and '.join(targets)} at once"
                gates.append(
                    Gate("E05", "block", f"label_collision: {detail}; ask for one of them")
                )
    return gates


def _protocols(recipe: Recipe, wanted: list[str]) -> list[Gate]:
    """Rule E05: what was drawn by different protocols is not one concept."""
    said: dict[tuple[str, str], dict[str, str]] = {}
    for member in recipe.sources:
        described = _in_use(member, recipe.task)
        rules: list[Layer | ClassLabels] = [*described.layers]
        rules += [described.classes] if described.classes else []
        for rule in rules:
            targets = {t for c in rule.concepts() for t in targets_of(c, wanted)}
            for flag, value in rule.protocol.items():
                for target in targets:
                    said.setdefault((target, flag), {})[member.id] = str(value).lower()
    gates = []
    for (concept, flag), values in sorted(said.items()):
        if len(set(values.values())) > 1:
            seen = ", ".join(f"{i} {value}" for i, value in values.items())
            detail = f"{concept}: the protocols differ in {flag} ({seen})"
            reason = recipe.accept.protocol.get(concept, "")
            hint = f"; accepted: {reason}" if reason else (
                "; map them to two concepts with a common parent, or give a reason under "
                "accept.protocol"
            )  # fmt: skip
            gates.append(Gate("E05", "accepted" if reason else "block", detail + hint))
    return gates


def common_concepts(spoken: Sequence[set[str]], mode: str) -> list[str]:
    """The finest concepts that all sources speak of, or that any does."""
    if not spoken:
        return []
    shared = set.intersection(*spoken) if mode == "intersection" else set.union(*spoken)
    above = {a for c in shared for a in concepts.ancestors(c)}
    return sorted(shared - above)


def _same_kind(recipe: Recipe) -> list[Gate]:
    """Rules E01 to E04: species, dimension, modality family and task agree."""
    gates = []
    for code, what, values in (
        ("E01", "species", {m.id: m.description.species for m in recipe.sources}),
        ("E01", "synthetic", {m.id: str(m.description.synthetic) for m in recipe.sources}),
        ("E02", "dimension", {m.id: m.description.dimension for m in recipe.sources}),
        ("E03", "modality family", {m.id: m.description.family for m in recipe.sources}),
    ):
        same = len(set(values.values())) == 1
        seen = ", ".join(f"{i} {v}" for i, v in values.items())
        gates.append(Gate(code, "pass" if same else "block", f"{what}: {seen}"))
    for member in recipe.sources:
        uses, described = member.uses(recipe.task), member.description
        has = described.classes if uses == "classes" else _in_use(member, recipe.task).layers
        if not has:
            hint = f"; {_CONVERT[uses]} of its masks" if described.layers else ""
            detail = f"source {member.id} has no {recipe.task} labels{hint}"
            gates.append(Gate("E04", "block", detail))
        elif uses == "bounds":
            detail = f"{member.id}: boxes are made from its masks and outlines: one around each"
            gates.append(Gate("E04", "accepted", detail))
        elif uses == "presence":
            detail = f"{member.id}: classes are made from its masks: present where there is any"
            gates.append(Gate("E04", "accepted", detail))
    if not_trained := _untrained(recipe):
        gates.append(Gate("E04", "warn", not_trained))
    return gates


def _untrained(recipe: Recipe) -> str:
    """Why the baseline of a recipe will not be run, however well its cases are read; else empty."""
    first = recipe.sources[0].description
    if recipe.baseline.tier == "none" or recipe.task != "detection" or first.dimension != "3D":
        return ""
    return (
        f"baseline {recipe.baseline.tier}: networks for boxes of volumes are not trained, so there "
        "will be no figures and no verdict; the bundle and its boxes are whole without (baseline: "
        "{tier: none} says so)"
    )


def _channels(recipe: Recipe) -> tuple[list[str], list[Gate]]:
    """The bundle's channels in their order, and rule E03 for them; none where they have no name.

    A source of one channel without a name fits others of one channel only.
    """
    named = {m.id: m.description.cases.channel_names() for m in recipe.sources}
    seen = "; ".join(f"{i}: {', '.join(names) or 'one, unnamed'}" for i, names in named.items())
    several = [i for i, names in named.items() if len(names) > 1]
    if recipe.channels is None:
        wanted = [c for c in next(iter(named.values())) if all(c in n for n in named.values())]
        if not wanted and (several or all(named.values())):
            how = "name them under channels, or state channels: [] to take each source's only one"
            return [], [Gate("E03", "block", f"no channel in common ({seen}); {how}")]
    else:
        wanted = list(dict.fromkeys(recipe.channels))
        lack = {i: [c for c in wanted if c not in names] for i, names in named.items()}
        if lacking := "; ".join(f"{i} has no {', '.join(c)}" for i, c in lack.items() if c):
            return [], [Gate("E03", "block", f"channels: {lacking} ({seen})")]
        if not wanted and several:
            detail = f"channels: {', '.join(several)} has several, name those to take ({seen})"
            return [], [Gate("E03", "block", detail)]
    return wanted, [Gate("E03", "pass", f"channels: {', '.join(wanted)}")] if wanted else []


def _differences(recipe: Recipe) -> list[Gate]:
    """Metadata first, files second: where a description and the catalog disagree, people look."""
    return [
        Gate(
            "catalog_differs",
            "warn",
            f"{row.source}: {row.field}: the catalog says {row.catalog}, "
            f"the source description {row.described}",
        )
        for row in recipe.known_differences
    ]


def _overlaps(recipe: Recipe) -> tuple[list[dict[str, str]], list[Gate]]:
    """Rule E07: sources known to share people or images need a plan; possible ones are printed."""
    accepted = {frozenset(a.datasets): a.reason for a in recipe.accept.overlap}
    rows, gates = [], []
    for a, b in combinations(recipe.sources, 2):
        overlap = _overlap(recipe, a, b)
        if overlap is None:
            continue
        reason = accepted.get(frozenset((a.dataset, b.dataset)), "")
        plan = recipe.overlap_plan if recipe.overlap_plan != "refuse" else None
        rows.append({"a": a.id, "b": b.id, **overlap, "plan": reason or plan or ""})
        colon = "" if a.dataset == b.dataset else ":"
        detail = f"{a.id} and {b.id}{colon} {overlap['kind']}: {overlap['evidence']}"
        if overlap["class"] == "possible":
            gates.append(
                Gate("E07", "warn", f"{detail}; images are compared before they are split")
            )
            continue
        verdict = "accepted" if reason or plan else "block"
        hint = (
            f"; accepted: {reason or plan}"
            if reason or plan
            else "; state an overlap_plan (drop_child_copies or keep_relabelled), or accept it "
            "under accept.overlap, to go on"
        )
        gates.append(Gate("E07", verdict, detail + hint))
    return rows, gates or [Gate("E07", "pass", "no overlap between the sources is known")]


def _overlap(recipe: Recipe, a: Member, b: Member) -> dict[str, str] | None:
    """What the sources' descriptions declare, else what the catalog knows."""
    if a.dataset == b.dataset:
        found = {"class": "certain", "kind": "are one dataset", "path": "direct"}
        return found | {"evidence": a.dataset}
    for one, other in ((a, b), (b, a)):
        for row in one.description.overlaps:
            if row.dataset == other.dataset:
                found = {"class": "certain", "kind": row.kind, "path": "direct"}
                child = "" if row.kind == "shared_patients" else one.id
                return found | {"evidence": row.evidence, "child": child}
    for known in recipe.known_overlaps:
        if set(known.datasets) == {a.dataset, b.dataset}:
            found = {"class": known.certainty, "kind": known.kind, "path": " > ".join(known.path)}
            # The path of an inclusion runs from the child to what it was made from.
            related = known.certainty != "possible" and known.kind != "shared_patients"
            child = next((m.id for m in (a, b) if m.dataset == known.path[0]), "")
            return found | {"evidence": known.evidence, "child": child if related else ""}
    return None


def _units(recipe: Recipe) -> list[Gate]:
    """Rule E06: beyond the native profile, sources of one modality share the unit of their voxels.

    What a source does not declare is expected to be the modality's own unit; its files are checked.
    """
    if recipe.target.profile == "native":
        return []
    units: dict[str, dict[str, str]] = {}
    for member in recipe.sources:
        known = member.description
        unit = known.intensity.unit if known.intensity else UNITS.get(known.modality)
        if unit and known.dimension == "3D":
            units.setdefault(known.modality, {})[member.id] = unit
    gates = []
    for modality, by_source in units.items():
        same = len(set(by_source.values())) == 1
        seen = ", ".join(f"{i} {unit}" for i, unit in by_source.items())
        hint = (
            "" if same else "; state slope and intercept under `intensity`, or use profile native"
        )
        gates.append(Gate("E06", "pass" if same else "block", f"unit of {modality}: {seen}{hint}"))
    return gates


def _places(recipe: Recipe) -> list[Gate]:
    """Rule E06: volumes whose files say nothing of place and voxel size serve classes only."""
    gates = []
    for member in recipe.sources:
        if member.description.dimension != "3D" or member.description.geometry != "none":
            continue
        detail = f"{member.id}: no_geometry: directions and sizes of its voxels are not known"
        if member.uses(recipe.task) != "classes" or recipe.target.profile == "grid":
            why = "they serve classification by classes, in the profiles native and canonical"
            gates.append(Gate("E06", "block", f"{detail}; {why}"))
        else:
            gates.append(Gate("E06", "accepted", detail))
    return gates


def _safety(recipe: Recipe) -> list[Gate]:
    """Rule E12: heads in local or own data are shared only when somebody says they have no face.

    The people are recognisable from a rendering of the skin.
    """
    gates = []
    for member in recipe.sources:
        known = member.description
        here = member.location.kind in {"local", "own", "manual"}
        if known.dimension != "3D" or not here or not _shows_head(member):
            continue
        if known.faces in {"none", "removed"}:
            gates.append(Gate("E12", "pass", f"{member.id}: faces {known.faces}"))
        elif recipe.build == "shareable":
            detail = (
                f"face_unattested: {member.id} shows heads and faces are {known.faces}; say "
                "`faces: removed` (or none) in its description if so, or use build: private"
            )
            gates.append(Gate("E12", "block", detail))
        else:
            detail = f"{member.id}: heads, faces {known.faces}: private copy, not for sharing"
            gates.append(Gate("E12", "accepted", detail))
    return gates


def _shows_head(member: Member) -> bool:
    spoken = spoken_concepts(member, "")
    return not HEAD.isdisjoint(spoken.union(*(concepts.ancestors(c) for c in spoken)))


def _licences(recipe: Recipe) -> list[Gate]:
    """Rules E08 and E09: what may be combined, and what may be passed on in which form."""
    gates = []
    for member in recipe.sources:
        parts = {part: getattr(member.description.licence, part) for part in _PARTS}
        shipped = ships(recipe.build, recipe.target.profile, *map(licence, parts.values()))
        for part, stated in parts.items():
            terms, name = licence(stated), f"{member.id} {part}: {stated or 'unknown'}"
            if terms.no_combination and len(recipe.sources) > 1:
                detail = f"licence_conflict: {name} forbids combination"
                gates.append(Gate("E08", "block", detail))
            elif not terms.known:
                gates.append(Gate("E09", "warn", f"licence_unknown: {name}: nothing is allowed"))
            if shipped[part] != "harmonised":
                gates.append(Gate("E09", "accepted", _held_back(name, shipped[part], terms)))
            elif recipe.build == "private" and not (terms.redistribute and terms.adapt):
                gates.append(Gate("E09", "accepted", f"{name}: private copy, not for sharing"))
            else:
                gates.append(Gate("E09", "pass", name))
    return [*gates, *_one_file(recipe)]


def _held_back(name: str, ships: str, terms: Licence) -> str:
    if ships == "original":
        return f"{name}: no adaptation: original bytes and a recipe of transforms only"
    why = "its images may not be" if terms.redistribute else "it may not be"
    return f"recipe_only: {name}: {why} passed on; the bundle says how to rebuild these cases"


def ships(build: str, profile: str, images: Licence, labels: Licence) -> dict[str, str]:
    """What a build holds of a source's images and labels: harmonised, original or recipe.

    Labels come from their images, so that a restriction of the images holds for both.
    """
    if build == "private":
        return {"images": "harmonised", "labels": "harmonised"}

    def form(*, redistribute: bool, adapt: bool) -> str:
        return "recipe" if not redistribute else "harmonised" if adapt else "original"

    return {
        "images": form(
            redistribute=images.redistribute,
            adapt=images.adapt or profile == "native",
        ),
        "labels": form(
            redistribute=images.redistribute and labels.redistribute,
            adapt=images.adapt and labels.adapt,
        ),
    }


def _one_file(recipe: Recipe) -> list[Gate]:
    """A collection keeps each file's licence; a single file made of all parts may be impossible."""
    licences = [getattr(m.description.licence, p) for m in recipe.sources for p in _PARTS]
    whole = combine(licences)
    mixes = whole.share_alike and not whole.commercial and whole.share_alike_commercial
    if len(whole.share_alike) <= 1 and not mixes:
        return []
    why = f"share-alike {' and '.join(whole.share_alike)}"
    detail = f"licence_conflict: no average or stacked array over all sources may be made: {why}"
    return [Gate("E08", "warn", f"{detail}{' beside non-commercial parts' if mixes else ''}")]


def _subjects(recipe: Recipe) -> list[Gate]:
    """Rule E11: a source without subject ids is one group, unless its author accepts the risk."""
    gates = []
    for member in recipe.sources:
        if member.description.cases.has_subjects:
            continue
        accepted = member.id in recipe.accept.unknown_subjects
        how = "each case counts as a subject" if accepted else "all its cases are one group"
        gates.append(
            Gate(
                "E11",
                "accepted" if accepted else "pass",
                f"{member.id}: subject ids are unknown; {how}",
            )
        )
    return gates


def _confounded(recipe: Recipe, wanted: list[str]) -> list[Gate]:
    """Rule E10: a class that one source alone can have tells the source, not the finding."""
    if recipe.task != "classification" or len(recipe.sources) == 1:
        return []
    gates = []
    for concept in wanted:
        having = [m.id for m in recipe.sources if concept in spoken_concepts(m, recipe.task)]
        if len(having) == 1:
            accepted = recipe.accept.confounding
            hint = "" if accepted else "; set accept.confounding to go on"
            detail = f"class_confounded: {concept} occurs in {having[0]} only{hint}"
            gates.append(Gate("E10", "accepted" if accepted else "block", detail))
    return gates


def _pseudo(recipe: Recipe) -> list[Gate]:
    """Rule E13: labels made by a model never judge a model."""
    made = [m.id for m in recipe.sources if m.description.annotation == "pseudo"]
    if made and recipe.splits.protocol == "loso":
        detail = f"{', '.join(made)}: labels made by a model cannot be a test set; use holdout"
        return [Gate("E13", "block", detail)]
    return [Gate("E13", "accepted", f"{i}: labels made by a model; train only") for i in made]

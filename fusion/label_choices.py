"""Which concept each label of a draft's sources means, as a person edits it, and what comes of it.

Pure. What a bundle takes of the labels is asked of the plan, so that an editor shows what a build
does. A source that nobody has described counts with the classes that the catalog lists.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

from catalog import concepts
from catalog.faults import Fault, FaultsError
from fusion.alignment import MappedClass, map_class, proposals
from fusion.gates import (
    Gate,
    common_concepts,
    label_gates,
    own_concepts,
    spoken_concepts,
    targets_of,
)
from fusion.recipe import Member, Recipe
from fusion.recipe_check import PROPOSED
from fusion.recipe_draft import SCHEMA, Draft, DraftSource
from fusion.source import BACKGROUND, BOTH, IGNORE, ClassLabels, Layer, SourceDescription, parts_of

MODES = ("intersection", "union")
NOTHING = frozenset({"", "?"})


@dataclass(frozen=True)
class Label:
    """A value as the files call it, and what it means.

    Args:
        key: its place in the source description: layers.0.values.3, classes.columns.Edema.
        where: the file or table that holds it.
        meaning: a concept, "a+b", "background", "?x" (proposed) or "?" (nobody has said).
        proposals: concepts that its name looks like, with the likeness, 0-100.
    """

    key: str
    value: str
    where: str
    meaning: str
    proposals: tuple[tuple[str, float], ...]

    @property
    def is_decided(self) -> bool:
        return not any(part.startswith(PROPOSED) for part in parts_of(self.meaning))


@dataclass(frozen=True)
class SourceLabels:
    """The labels of one source that the task uses.

    `labels` of a described source, else `listed`: the catalog's classes. `can_cover` are wider
    concepts that others speak of and the parts here may be the whole of; `covers` are declared so.
    """

    id: str
    dataset: str
    labels: tuple[Label, ...]
    listed: tuple[MappedClass, ...]
    covers: tuple[str, ...]
    can_cover: tuple[str, ...]
    spoken: tuple[str, ...]


@dataclass(frozen=True)
class Kept:
    """What a bundle makes of one source's values.

    `takes` is concept -> values; `lost` are values that become background, `unlabelled` concepts of
    the bundle that nobody looked for here.
    """

    takes: Mapping[str, tuple[str, ...]]
    lost: tuple[str, ...]
    unlabelled: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """The labels of a bundle in one mode; `conflicts` are what rule E05 says of them."""

    mode: str
    concepts: tuple[str, ...]
    sources: Mapping[str, Kept]
    conflicts: tuple[Gate, ...]


@dataclass(frozen=True)
class Labels:
    """All of it; `meanings` is source -> concept -> its values of that or a narrower concept."""

    sources: tuple[SourceLabels, ...]
    outcomes: Mapping[str, Outcome]
    meanings: Mapping[str, Mapping[str, tuple[str, ...]]]

    @property
    def candidates(self) -> tuple[str, ...]:
        """Concepts that a bundle may ask for: those that any source speaks of."""
        return tuple(sorted({one for source in self.sources for one in source.spoken}))

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return asdict(self)


def labels_of(draft: Draft, facts: Mapping[str, Mapping[str, Any]]) -> Labels:
    """The labels of every source, and what intersection and union would make of them.

    Args:
        facts: of the draft's datasets by slug.
    """
    members = {one.id: member for one in draft.sources if (member := _member(one))}
    listed = {
        one.id: [map_class(word) for word in facts.get(one.dataset, {}).get("classes", ())]
        for one in draft.sources
        if one.id not in members
    }
    spoken = {key: spoken_concepts(member, draft.task) for key, member in members.items()}
    spoken |= {key: {one.concept for one in rows if one.concept and one.is_sure}
               for key, rows in listed.items()}  # fmt: skip
    said = {key: _meanings(member, draft.task) for key, member in members.items()}
    said |= {key: [(one.value, one.concept or "" if one.is_sure else "") for one in rows]
             for key, rows in listed.items()}  # fmt: skip
    every = sorted(set().union(*spoken.values()))
    # Classes that nobody lists are not the same as classes that are not there.
    heard = [one for key, one in spoken.items() if key in members or one]
    asked = [one for one in draft.names("concepts") if one in concepts.concepts()]
    outcomes = {}
    for mode in MODES:
        wanted = list(dict.fromkeys(asked)) or common_concepts(heard, mode)
        kept = {key: _kept(rows, wanted, spoken[key]) for key, rows in said.items()}
        conflicts = _conflicts(mode, draft, list(members.values()), wanted)
        outcomes[mode] = Outcome(mode, tuple(wanted), kept, tuple(conflicts))
    return Labels(
        tuple(
            _source(one, members.get(one.id), listed.get(one.id, []), spoken, draft.task)
            for one in draft.sources
        ),
        outcomes,
        {key: _kept(rows, every, set()).takes for key, rows in said.items()},
    )


def with_meanings(description: Mapping[str, Any], chosen: Mapping[str, str]) -> dict[str, Any]:
    """A copy of a source description in which labels mean something else; unknown keys are left.

    Args:
        chosen: key of a label -> meaning.
    """
    changed: dict[str, Any] = copy.deepcopy(dict(description))
    for key, meaning in chosen.items():
        holder, name = _place(changed, key)
        if holder is not None:
            holder[name] = meaning
    return changed


def _place(data: Any, key: str) -> tuple[MutableMapping[Any, Any] | None, Any]:
    """The mapping that a label stands in, and under which key."""
    steps = key.split(".", 3 if key.startswith("layers.") else 2)
    for step in steps[:-1]:
        if isinstance(data, list) and step.isdigit() and int(step) < len(data):
            data = data[int(step)]
        elif isinstance(data, Mapping):
            data = data.get(step)
    if not isinstance(data, MutableMapping):
        return None, ""
    # YAML reads the 1 of {1: liver} as a number.
    same = [name for name in data if str(name) == steps[-1]]
    return (data, same[0]) if same else (None, "")


def read_meaning(text: str, place: str) -> str:
    """What a person typed as a meaning: names of concepts, joined by +, background or ignore.

    Raises:
        FaultsError: no concept is called that; the nearest one is named.
    """
    if text.strip() in NOTHING:
        return PROPOSED
    found = []
    for part in text.split(BOTH):
        if part.strip().lower() in {BACKGROUND, IGNORE}:
            found.append(part.strip().lower())
        elif (concept := concepts.resolve(part)) is not None:
            found.append(concept.id)
        else:
            near = concepts.nearest(part)
            expected = "a concept, several joined by +, background or ignore"
            raise FaultsError([Fault(place, part.strip(), expected, near.label if near else None)])
    return BOTH.join(dict.fromkeys(found))


def meaning_text(meaning: str) -> str:
    """A meaning as a person reads and types it; empty while it is undecided."""
    if any(part.startswith(PROPOSED) for part in parts_of(meaning)):
        return ""
    return f" {BOTH} ".join(concept_label(part) for part in parts_of(meaning))


def concept_label(concept_id: str) -> str:
    """The name of a concept; an unknown one, "background" and "ignore" as they are."""
    row = concepts.concepts().get(concept_id)
    return row.label if row else concept_id


def labels_in_use(description: SourceDescription, uses: str) -> Iterator[Label]:
    """The labels of one kind, in order.

    Args:
        uses: layers, classes, presence (classes made of layers), boxes, or bounds (boxes made of
            layers).
    """
    if uses == "classes":
        if description.classes:
            yield from _of_classes(description.classes)
        return
    for index, layer in enumerate(description.layers):
        if uses != "boxes" or layer.may_hold_boxes:
            yield from _of_layer(f"layers.{index}", layer)


def _of_layer(place: str, layer: Layer) -> Iterator[Label]:
    where = layer.path or f"channel {layer.channel}"
    if layer.concept:
        stem = re.sub(r"\{\w+\}|[\W\d_]+", " ", PurePosixPath(layer.path).name.partition(".")[0])
        yield _label(f"{place}.concept", f"the {layer.kind}", where, layer.concept, stem)
    for value, meaning in layer.values.items():
        yield _label(f"{place}.values.{value}", value, where, meaning, value)


def _of_classes(rule: ClassLabels) -> Iterator[Label]:
    where = ", ".join(rule.table) or (f"folder {{{rule.field}}}" if rule.field else "array")
    for kind, values in (("values", rule.values), ("columns", rule.columns)):
        for value, meaning in values.items():
            yield _label(f"classes.{kind}.{value}", value, where, meaning, value)


def _label(key: str, value: str, where: str, meaning: str, word: str) -> Label:
    guess = meaning[1:] if meaning.startswith(PROPOSED) else ""
    first = [(guess, 100.0)] if guess in concepts.concepts() else []
    named = proposals(word) if re.search("[A-Za-z]{2}", word) else []
    rows = [*first, *(row for row in named if row[0] != guess)]
    return Label(key, value, where, meaning, tuple(rows))


def _member(source: DraftSource) -> Member | None:
    """A described source; what is undecided in it counts as background."""
    if source.description is None or source.data is None:
        return None
    found = [*labels_in_use(source.description, "layers"),
             *labels_in_use(source.description, "classes")]  # fmt: skip
    undecided = {one.key: BACKGROUND for one in found if not one.is_decided}
    decided = with_meanings(source.data, undecided)
    try:
        return source.member(SourceDescription.model_validate(decided))
    except ValueError:
        return None


def _source(
    source: DraftSource,
    member: Member | None,
    listed: Sequence[MappedClass],
    spoken: Mapping[str, set[str]],
    task: str,
) -> SourceLabels:
    covers: tuple[str, ...] = ()
    can_cover: list[str] = []
    labels: tuple[Label, ...] = ()
    if member is not None and source.description is not None:
        covers = tuple(source.description.covers)
        others = set().union(*(said for key, said in spoken.items() if key != source.id))
        own = own_concepts(member, task)
        above = {up for one in own for up in concepts.ancestors(one)}
        can_cover = sorted(above & others - set(own) - set(covers))
        labels = tuple(labels_in_use(source.description, member.uses(task)))
    return SourceLabels(
        id=source.id,
        dataset=source.dataset,
        labels=labels,
        listed=tuple(listed),
        covers=covers,
        can_cover=tuple(can_cover),
        spoken=tuple(sorted(spoken.get(source.id, ()))),
    )


def _meanings(member: Member, task: str) -> list[tuple[str, str]]:
    """Each label's name and meaning; of a mask the name of its concept."""
    rows = labels_in_use(member.description, member.uses(task))
    return [
        (concept_label(one.meaning) if one.key.endswith(".concept") else one.value, one.meaning)
        for one in rows
        if one.meaning not in {BACKGROUND, IGNORE}
    ]


def _kept(rows: Iterable[tuple[str, str]], wanted: list[str], spoken: set[str]) -> Kept:
    takes: dict[str, list[str]] = {}
    lost = []
    for value, meaning in rows:
        known = [part for part in parts_of(meaning) if part in concepts.concepts()]
        targets = {target for part in known for target in targets_of(part, wanted)}
        if not targets:
            lost.append(value)
        for target in sorted(targets):
            takes.setdefault(target, []).append(value)
    return Kept(
        {concept: tuple(values) for concept, values in sorted(takes.items())},
        tuple(lost),
        tuple(one for one in wanted if one not in spoken and one not in takes),
    )


def _conflicts(mode: str, draft: Draft, members: list[Member], wanted: list[str]) -> list[Gate]:
    if not members:
        return []
    said = draft.part("accept").get("protocol")
    accepted = {str(k): str(v) for k, v in said.items()} if isinstance(said, Mapping) else {}
    recipe = Recipe.model_validate(
        {"schema": SCHEMA, "title": "draft", "task": draft.task, "mode": mode,
         "sources": [member.model_dump(mode="json", by_alias=True) for member in members],
         "accept": {"protocol": accepted},
         "concepts": [] if len(members) == len(draft.sources) and not draft.names("concepts")
         else wanted}
    )  # fmt: skip
    return [gate for gate in label_gates(recipe) if gate.verdict != "pass"]

"""From a list of files to cases: which image, which labels, which subject. Pure, no I/O."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from fusion.source import FIELD, Cases, Layer, SourceDescription, template_fields


@dataclass(frozen=True)
class ArrayRow:
    """A case that is one row of arrays; a file without keys has the key "".

    Without masks, `masks_file` is empty.
    """

    file: str
    images: str
    labels_file: str
    labels: str
    row: int
    masks_file: str = ""
    masks: str = ""


@dataclass(frozen=True)
class FoundCase:
    """One case as its files show it; `code` says why it cannot be used.

    `channels` holds path and index on the fourth axis (-1: none) of each channel of a source that
    names several; the first is `image`, too. `plane` is the frame or slice of the image that this
    case is (-1: all of it), and the field `image` the name of that image.
    """

    name: str
    subject: str | None
    image: str  # path in the source; "" when missing; a folder ends in "/"
    layers: tuple[tuple[str, ...], ...]  # per layer, its files
    split: str | None
    fields: tuple[tuple[str, str], ...] = ()
    array: ArrayRow | None = None
    code: str = ""
    detail: str = ""
    channels: tuple[tuple[str, int], ...] = ()
    plane: int = -1


def path_regex(template: str, fields: Mapping[str, str]) -> re.Pattern[str]:
    """Turn `images/{name}.png` into a regular expression with one group per field."""
    out, seen, end = [], set(), 0
    for match in FIELD.finditer(template):
        out.append(re.escape(template[end : match.start()]))
        end = match.end()
        if match[2]:
            out.append("[^/]*")
        elif match[1] in seen:
            out.append(f"(?P={match[1]})")
        else:
            seen.add(match[1])
            out.append(f"(?P<{match[1]}>{fields.get(match[1], '[^/]+?')})")
    out.append(re.escape(template[end:]))
    return re.compile("".join(out))


def find_cases(description: SourceDescription, paths: Iterable[str]) -> list[FoundCase]:
    """Every case that an image or a label of this source speaks of, in order of name.

    Args:
        description: what the source looks like.
        paths: all files of the source, relative, with `/`.
    """
    cases, files = description.cases, sorted(paths)
    parts = [one.path or cases.image for one in cases.channels.values()] or [cases.image]
    images = [_Files(cases, template, files) for template in parts]
    labels = [_Files(cases, layer.path, files) for layer in description.layers if layer.path]
    keys = {key for part in (*images, *labels) if part.is_full for key in part.by_key}
    found = [_case(description, key, images, labels) for key in keys]
    return sorted(_with_own_names(found), key=lambda case: case.name)


Key = tuple[tuple[str, str], ...]


class _Files:
    """Files that fit one template, by those of its fields that the image's path has, too."""

    def __init__(self, cases: Cases, template: str, files: list[str]) -> None:
        own, ours = set(template_fields(template)), set(template_fields(cases.template()))
        self.template, self.shared, self.is_full = template, own & ours, ours <= own
        self.by_key: dict[Key, list[str]] = {}
        candidates: Iterable[str] = files
        if template.endswith("/"):
            candidates = sorted({f.rpartition("/")[0] + "/" for f in files})
        pattern = path_regex(template, cases.fields)
        for path in candidates:
            if match := pattern.fullmatch(path):
                self.by_key.setdefault(self._key(match.groupdict()), []).append(path)

    def _key(self, fields: Mapping[str, str]) -> Key:
        return tuple(sorted((name, fields[name]) for name in self.shared))

    def of(self, fields: Mapping[str, str]) -> list[str]:
        """Files of one case: the template may name only some of the image's fields."""
        return self.by_key.get(self._key(fields), [])

    def expected(self, fields: Mapping[str, str]) -> str:
        """Where this case's file would be."""
        return FIELD.sub(lambda m: fields.get(m[1], "*") if m[1] else "*", self.template)


def _case(
    description: SourceDescription, key: Key, images: list[_Files], labels: list[_Files]
) -> FoundCase:
    fields, cases = dict(key), description.cases
    template = cases.template()
    name = fields.get("name") or "_".join(fields[f] for f in template_fields(template))
    name = name or template.rstrip("/").rpartition("/")[2].partition(".")[0]
    layers = tuple(tuple(files.of(fields)) for files in labels)
    channels = [files.of(fields) for files in images]
    code, detail = _image_problem(cases, fields, images, channels)
    if not code:
        image = channels[0][0]
        code, detail = _label_problem(description.layers, fields, labels, layers, image)
    split = next((s for regex, s in cases.split.items() if re.fullmatch(regex, name)), None)
    subject = cases.subject.format(**{"name": name, **fields}) if cases.subject else cases.subject
    found = FoundCase(
        name,
        subject,
        channels[0][0] if channels[0] else "",
        layers,
        None,
        key,
        code=code,
        detail=detail,
        channels=_indexed(cases, channels) if not code else (),
    )
    return with_split(found, split)


def _indexed(cases: Cases, channels: list[list[str]]) -> tuple[tuple[str, int], ...]:
    named = cases.channels.values()
    return tuple(
        (paths[0], -1 if one.channel is None else one.channel)
        for one, paths in zip(named, channels, strict=False)
    )


def _image_problem(
    cases: Cases, fields: Mapping[str, str], images: list[_Files], channels: list[list[str]]
) -> tuple[str, str]:
    """Each channel is one file."""
    for name, files, paths in zip(cases.channels or [""], images, channels, strict=True):
        what = f"channel {name}" if name else "image"
        if not paths:
            return "image_missing", f"no {what} at {files.expected(fields)}"
        if len(paths) > 1:
            seen = ", ".join(paths[:3])
            return "image_ambiguous", f"{what}: {len(paths)} files where one is expected: {seen}"
    return "", ""


def _label_problem(
    layers: list[Layer],
    fields: Mapping[str, str],
    labels: list[_Files],
    found: tuple[tuple[str, ...], ...],
    image: str,
) -> tuple[str, str]:
    for layer, files, paths in zip(layers, labels, found, strict=True):
        if not paths and layer.missing == "exclude":
            return "label_missing", f"{image} has no label at {files.expected(fields)}"
    if layers and not any(found) and all(layer.missing == "unknown" for layer in layers):
        return "label_missing", f"{image} has no label in any layer"
    return "", ""


def planes_of(case: FoundCase, planes: Iterable[int], first: int = 0) -> Iterator[FoundCase]:
    """A case for each plane of an image; the field `plane` counts from `first`, as tables do."""
    for plane in planes:
        fields = (*case.fields, ("image", case.name), ("plane", str(plane + first)))
        yield replace(case, name=f"{case.name}_{plane:05d}", fields=fields, plane=plane)


def with_split(case: FoundCase, split: str | None) -> FoundCase:
    """The case in the publisher's split; what is hidden is never used."""
    if split == "hidden" and not case.code:
        detail = "official hidden test data"
        return replace(case, split=split, code="hidden", detail=detail)
    return replace(case, split=split)


def _with_own_names(found: list[FoundCase]) -> list[FoundCase]:
    """No two cases have one name: where the name repeats, the other fields of the path join it."""
    often = {name for name, n in Counter(case.name for case in found).items() if n > 1}
    return [
        replace(case, name="/".join(value for _, value in case.fields))
        if case.name in often
        else case
        for case in found
    ]

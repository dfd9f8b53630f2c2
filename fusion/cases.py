"""From a list of files to cases: which image, which labels, which subject. Pure, no I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fusion.source import Cases, SourceDescription

_FIELD = re.compile(r"\{(\w+)\}|(\*)")


@dataclass(frozen=True)
class FoundCase:
    """One case as its files show it; `code` says why it cannot be used."""

    name: str
    subject: str | None
    image: str  # path in the source; "" when missing; a folder ends in "/"
    layers: tuple[tuple[str, ...], ...]  # per layer, its files
    split: str | None
    fields: tuple[tuple[str, str], ...] = ()
    npz: tuple[str, str, int] | None = None  # images key, labels key, row
    code: str = ""
    detail: str = ""


def path_regex(template: str, fields: Mapping[str, str]) -> re.Pattern[str]:
    """Turn `images/{name}.png` into a regular expression with one group per field."""
    out, seen, end = [], set(), 0
    for match in _FIELD.finditer(template):
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


def field_names(template: str) -> set[str]:
    """Fields of a path template."""
    return {match[1] for match in _FIELD.finditer(template) if match[1]}


def find_cases(description: SourceDescription, paths: Iterable[str]) -> list[FoundCase]:
    """Every case that an image or a label of this source speaks of, in order of name.

    Args:
        description: what the source looks like.
        paths: all files of the source, relative, with `/`.
    """
    cases, files = description.cases, sorted(paths)
    images = _match_images(cases, files)
    labels = [_match_layer(cases, layer.path, files) for layer in description.layers]
    keys = set(images)
    for by_key in labels:
        if any(_is_full(key, cases) for key in by_key):
            keys |= {key for key in by_key if _is_full(key, cases)}
    found = [_case(description, key, images, labels) for key in keys]
    return sorted(found, key=lambda case: case.name)


Key = tuple[tuple[str, str], ...]


def _match_images(cases: Cases, files: list[str]) -> dict[Key, str]:
    pattern = path_regex(cases.image, cases.fields)
    if cases.image.endswith("/"):
        candidates: Iterable[str] = sorted({f.rpartition("/")[0] + "/" for f in files})
    else:
        candidates = files
    return {_key(match): path for path in candidates if (match := pattern.fullmatch(path))}


def _match_layer(cases: Cases, template: str, files: list[str]) -> dict[Key, list[str]]:
    pattern = path_regex(template, cases.fields)
    by_key: dict[Key, list[str]] = {}
    for path in files:
        if match := pattern.fullmatch(path):
            by_key.setdefault(_key(match), []).append(path)
    return by_key


def _key(match: re.Match[str]) -> Key:
    return tuple(sorted(match.groupdict().items()))


def _is_full(key: Key, cases: Cases) -> bool:
    return {name for name, _ in key} == field_names(cases.image)


def _case(
    description: SourceDescription,
    key: Key,
    images: Mapping[Key, str],
    labels: list[dict[Key, list[str]]],
) -> FoundCase:
    fields, cases = dict(key), description.cases
    name = fields.get("name") or "_".join(fields[f] for f in _order(cases.image))
    name = name or cases.image.rstrip("/").rpartition("/")[2].partition(".")[0]
    layers = tuple(tuple(_files_of(by_key, fields)) for by_key in labels)
    image, code, detail = images.get(key, ""), "", ""
    if not image:
        first = next(path for files in layers for path in files)
        code, detail = "image_missing", f"{first} has no image at {cases.image.format(**fields)}"
    elif any(not files for files in layers):
        wanted = next(
            layer.path for layer, files in zip(description.layers, layers, strict=True) if not files
        )
        code, detail = "label_missing", f"{image} has no label at {_fill(wanted, fields)}"
    split = next((s for regex, s in cases.split.items() if re.fullmatch(regex, name)), None)
    if split == "hidden" and not code:
        code, detail = "hidden", "official hidden test data"
    subject = cases.subject.format(**fields) if cases.subject is not None else None
    return FoundCase(name, subject, image, layers, split, key, None, code, detail)


def _files_of(by_key: Mapping[Key, list[str]], fields: Mapping[str, str]) -> list[str]:
    """Files of one layer: its template may name only some of the image's fields."""
    return [
        path
        for key, paths in by_key.items()
        if all(fields.get(name) == value for name, value in key)
        for path in paths
    ]


def _fill(template: str, fields: Mapping[str, str]) -> str:
    return _FIELD.sub(lambda m: fields.get(m[1], "*") if m[1] else "*", template)


def _order(template: str) -> list[str]:
    return list(dict.fromkeys(m[1] for m in _FIELD.finditer(template) if m[1]))

"""Recipes and source descriptions as files: those shipped, and anybody's text."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from fusion.errors import Problem, RecipeError, nearest
from fusion.source import SourceDescription

RECIPES = Path(__file__).resolve().parent / "recipes"
DEEPEST = 50  # levels of lists and mappings in a recipe's text


def example_recipes() -> dict[str, Path]:
    """Recipes shipped with the portal: name -> file."""
    return {path.stem: path for path in sorted(RECIPES.glob("*.yaml"))}


@cache
def shipped_recipes() -> Mapping[str, dict[str, Any]]:
    """What `load_recipe` makes of them, by name. Read once, so nobody may change them."""
    return MappingProxyType({name: load_recipe(path) for name, path in example_recipes().items()})


@cache
def shipped_descriptions() -> Mapping[str, SourceDescription]:
    """Source descriptions shipped with the portal, by the name that recipes use."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return MappingProxyType(
        {
            path.stem: SourceDescription.model_validate(
                yaml.load(path.read_text("utf-8"), Loader=loader)  # noqa: S506 - a safe loader
            )
            for path in _description_files()
        }
    )


def descriptions_of(dataset: str) -> list[tuple[str, SourceDescription]]:
    """The shipped descriptions of a dataset, by name."""
    return [(name, one) for name, one in shipped_descriptions().items() if one.dataset == dataset]


def _description_files() -> list[Path]:
    return sorted((RECIPES / "sources").glob("*.yaml"))


def load_recipe(path: Path) -> dict[str, Any]:
    """Read a recipe file and put its source descriptions in place of their file names.

    Raises:
        RecipeError: no such file, no YAML or JSON, a description that is not there.
    """
    return resolve(parse(_read(path, "recipe")), folder=path.parent)


def load_description(name: str) -> dict[str, Any]:
    """A source description: of a shipped name, or in a file.

    Raises:
        RecipeError: no such file, no YAML or JSON.
    """
    path = _shipped().get(name, Path(name))
    return parse(_read(path, "description"))


def _shipped() -> dict[str, Path]:
    return {path.stem: path for path in _description_files()}


def parse(text: str) -> dict[str, Any]:
    """YAML or JSON text as a mapping.

    Raises:
        RecipeError: broken text, with line and column.
    """
    try:
        _refuse_bombs(text)
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "the text"
        raise _one("", where, "YAML or JSON", f"recipe: {where}: {error}") from error
    if not isinstance(data, dict):
        raise _one("", type(data).__name__, "a mapping", "recipe: expected a mapping of keys")
    return data


def _refuse_bombs(text: str) -> None:
    """Aliases and deep nesting, a few bytes of which could fill the memory; reads events only."""
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            message = "recipe: found a YAML alias (*name), expected the value written out"
            raise _one("recipe", "a YAML alias", "the value written out", message)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEEPEST:
            message = f"recipe: nested too deeply, expected at most {DEEPEST} levels"
            raise _one("recipe", "deep nesting", f"at most {DEEPEST} levels", message)


def resolve(data: Mapping[str, Any], folder: Path | None = None) -> dict[str, Any]:
    """Replace `description: file.yaml` by the file's content, and a shipped name by ours.

    Args:
        data: recipe as read.
        folder: where description files are looked up; None (a recipe from the network) allows the
            names of shipped descriptions only.
    """
    data = dict(data)
    sources = data.get("sources")
    if isinstance(sources, list):
        data["sources"] = [
            _with_description(dict(source), i, folder) if isinstance(source, dict) else source
            for i, source in enumerate(sources)
        ]
    return data


def _read(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        siblings = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        hint = nearest(path.name, siblings)
        message = f"{what} {path}: {getattr(error, 'strerror', None) or error}{hint}"
        raise _one(what, str(path), "a readable file", message) from error


def _with_description(source: dict[str, Any], index: int, folder: Path | None) -> dict[str, Any]:
    name = source.get("description")
    if not isinstance(name, str):
        return source
    shipped = _shipped()
    path = shipped.get(name)
    if path is None and folder is not None:
        path = folder / name
    if path is None:
        where = f"sources[{index}].description"
        message = f"{where}: found {name!r}, expected the description itself or a shipped name"
        raise _one(where, name, "a shipped description", message + nearest(name, shipped))
    source["description"] = parse(_read(path, f"sources[{index}].description"))
    return source


def _one(path: str, found: str, expected: str, message: str) -> RecipeError:
    return RecipeError([Problem(path, found, expected, message)])

"""The command line: `imagingx search`, `show`, `compare`, `blueprint`, `fuse`, `download` ..."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from imagingx.client import Client
from imagingx.connection import DEFAULT_URL, TOKEN, URL, Json, ProblemError
from imagingx.transfer import ChecksumError

OK, REFUSED, AWAY = 0, 1, 3
out, err = Console(), Console(stderr=True)


def main(words: Sequence[str] | None = None) -> int:
    """Exit status: 0, 1 refused or failed, 2 wrong words, 3 no portal there."""
    options = _parser().parse_args(words)
    command: Callable[[Client, argparse.Namespace], int] = options.command
    try:
        with Client(options.url, options.token) as portal:
            return command(portal, options)
    except ProblemError as error:
        err.print(str(error), style="red", markup=False, highlight=False)
        for one in error.errors:
            err.print(f"  {one['message']}", markup=False, highlight=False)
    except (ChecksumError, OSError, ValueError) as error:
        err.print(str(error), style="red", markup=False, highlight=False)
    except httpx.TransportError as error:
        err.print(f"{options.url or DEFAULT_URL}: {error}", style="red", markup=False)
        return AWAY
    except KeyboardInterrupt:
        return 130
    return REFUSED


def search(portal: Client, options: argparse.Namespace) -> int:
    filters: dict[str, Any] = {"limit": options.limit, **_filters(options.filter)}
    found = portal.search(" ".join(options.text), **filters)
    if options.json:
        return _json(found)
    table = _table("slug", "name", "why")
    for hit in found["results"]:
        table.add_row(hit["slug"], hit["name"], ", ".join(hit["why"]))
    out.print(f"{found['total']} datasets", markup=False)
    out.print(table)
    if found["near"]:
        near = _table("slug", "near, but", title="Near")
        for hit in found["near"]:
            near.add_row(hit["slug"], ", ".join(hit["differs"]))
        out.print(near)
    return OK


def _filters(words: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for word in words:
        name, sign, value = word.partition("=")
        if not sign:
            raise ValueError(f"--filter: found {word!r}, expected name=value")
        found.setdefault(name, []).append(value)
    return found


def show(portal: Client, options: argparse.Namespace) -> int:
    if options.cite:
        sys.stdout.write(portal.citation(options.slug, options.cite).rstrip("\n") + "\n")
        return OK
    found = portal.dataset(options.slug)
    if options.json:
        return _json(found)
    table = _table("", found["name"])
    for name, value in found.items():
        if name not in {"record", "source_descriptions", "name"}:
            table.add_row(name, _text(value))
    out.print(table)
    return OK


def compare(portal: Client, options: argparse.Namespace) -> int:
    found = portal.compare(*options.slugs)
    if options.json:
        return _json(found)
    table = _table("", *options.slugs)
    for field in found["fields"]:
        table.add_row(field["field"], *(_text(value) for value in field["values"]))
    out.print(table)
    return OK


def blueprint(portal: Client, options: argparse.Namespace) -> int:
    asked = {"mode": options.mode, "task": options.task, "own": options.own}
    return _json(portal.blueprint(*options.slugs, **asked))


def fuse(portal: Client, options: argparse.Namespace) -> int:
    if options.local:
        return _fuse_here(options.recipe, options.out)
    path = Path(options.recipe)
    recipe = _read_recipe(path) if path.is_file() else options.recipe
    run = portal.start(recipe, priority=options.priority, key=options.key)
    out.print(f"run {run['id']} {run['state']}", markup=False, highlight=False)
    return _follow(portal, run["id"]) if options.follow else OK


def follow(portal: Client, options: argparse.Namespace) -> int:
    return _follow(portal, options.run)


def runs(portal: Client, options: argparse.Namespace) -> int:
    found = list(portal.runs(**({"state": options.state} if options.state else {})))
    if options.json:
        return _json(found)
    table = _table("id", "title", "state", "stage", "bundle")
    for run in found:
        bundle = (run["bundle_id"] or "")[:12]
        table.add_row(run["id"], run["title"], run["state"], run["stage"], bundle)
    out.print(table)
    return OK


def steer(portal: Client, options: argparse.Namespace) -> int:
    run = portal.steer(options.run, options.action)
    out.print(f"run {run['id']} {run['state']}", markup=False, highlight=False)
    return OK


def bundles(portal: Client, options: argparse.Namespace) -> int:
    found = list(portal.bundles())
    if options.json:
        return _json(found)
    table = _table("bundle_id", "title", "build", "size")
    for bundle in found:
        size = f"{bundle['size_bytes'] / 1e6:.1f} MB"
        table.add_row(bundle["bundle_id"], bundle["title"], bundle["build"], size)
    out.print(table)
    return OK


def remove(portal: Client, options: argparse.Namespace) -> int:
    portal.remove_bundle(options.bundle, options.why)
    out.print(f"bundle {options.bundle[:12]} removed", markup=False, highlight=False)
    return OK


def download(portal: Client, options: argparse.Namespace) -> int:
    with _bytes_told(options.bundle[:12]) as told:
        if options.view:
            target = Path(options.out or f"{options.bundle[:12]}-{options.view}.tar")
            portal.download_view(options.bundle, options.view, target, told)
        else:
            target = portal.download(options.bundle, options.out or options.bundle[:12], told)
    sys.stdout.write(f"{target}\n")
    return OK


def upload(portal: Client, options: argparse.Namespace) -> int:
    with _bytes_told("upload") as told:
        sent = portal.upload(options.source, options.name, told)
    found = sent
    for found in portal.follow_upload(sent["id"]):
        if found["total"]:
            err.print(f"checked {found['done']} of {found['total']} files", highlight=False)
    if options.keep and found["state"] == "checked":
        found = portal.keep_upload(found["id"], accept=options.accept)
    if options.json:
        return _json(found)
    out.print(f"{found['name']} {found['id']} {found['state']}", markup=False, highlight=False)
    if found["state"] == "refused":
        told_why = f"{found['error_code']}: {found['error']}"
        err.print(told_why, style="red", markup=False, highlight=False)
        return REFUSED
    _findings(found["report"])
    return OK


@contextmanager
def _bytes_told(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error, told the bytes that are there and those in all."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=err) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, size: bar.update(task, completed=done, total=size)


def _findings(report: Json) -> None:
    table = _table("weight", "files", "what may tell who people are")
    for one in report["findings"]:
        details = ", ".join(detail for detail, _ in one["details"])
        table.add_row(one["severity"], str(one["files"]), f"{one['message']}: {details}")
    if report["findings"]:
        out.print(table)
    for row in report["unreadable"]:
        out.print(f"{row['path']}: {row['code']}: {row['message']}", markup=False)


def uploads(portal: Client, options: argparse.Namespace) -> int:
    if options.delete:
        portal.delete_upload(options.delete)
        return OK
    found = list(portal.uploads())
    if options.json:
        return _json(found)
    table = _table("id", "name", "state", "size")
    for one in found:
        table.add_row(one["id"], one["name"], one["state"], f"{one['size_bytes'] / 1e6:.1f} MB")
    out.print(table)
    return OK


def searches(portal: Client, options: argparse.Namespace) -> int:
    if options.save is not None:
        return _json(portal.save_search(options.name, **_filters(options.save)))
    if options.delete is not None:
        portal.delete_search(options.delete)
        return OK
    found = list(portal.saved_searches())
    if options.json:
        return _json(found)
    table = _table("id", "name", "query")
    for one in found:
        table.add_row(str(one["id"]), one["name"], one["query"])
    out.print(table)
    return OK


def draft(portal: Client, options: argparse.Namespace) -> int:
    found = portal.draft(*options.slugs, own=options.own, mode=options.mode, task=options.task)
    for problem in found["problems"]:
        err.print(f"{problem['step']}: {problem['message']}", markup=False, highlight=False)
    return _json(found["recipe"])


def notify(portal: Client, options: argparse.Namespace) -> int:
    return _json(portal.notify(options.run, options.url_to_post))


def mcp(portal: Client, options: argparse.Namespace) -> int:  # noqa: ARG001
    try:
        from imagingx.tools import make_server
    except ModuleNotFoundError as error:
        raise ValueError(f"{error}; pip install mcp") from error
    make_server(portal).run("stdio")
    return OK


def _follow(portal: Client, run_id: str) -> int:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    run: Json = {}
    with Progress(*columns, console=err) as bar:
        tasks: dict[str, Any] = {}
        for run in portal.follow(run_id):
            for stage in run["stages"]:
                if stage["state"] == "waiting":
                    continue
                name, ended = stage["name"], stage["state"] == "done"
                if name not in tasks:
                    tasks[name] = bar.add_task(name, total=None)
                total = stage["total"] or (1 if ended else None)
                bar.update(tasks[name], total=total, completed=total if ended else stage["done"])
    if run["state"] == "succeeded":
        out.print(f"bundle {run['bundle_id']}", markup=False, highlight=False)
        return OK
    told = f"run {run_id} {run['state']} {run['error_code']}: {run['error']}"
    err.print(told, style="red", markup=False)
    return REFUSED


def _fuse_here(recipe: str, folder: str) -> int:
    """The portal's own command in this Python, without server or queue."""
    found = importlib.util.find_spec("portal")
    if found is None or not found.submodule_search_locations:
        raise ValueError("--local: Imaging-X itself is not installed here, only its client")
    if not folder:
        raise ValueError("--local: expected --out FOLDER")
    root = Path(next(iter(found.submodule_search_locations))).parent
    words = [str(Path(recipe).resolve()) if Path(recipe).is_file() else recipe]
    words += ["--out", str(Path(folder).resolve())]
    environment = {"DJANGO_SETTINGS_MODULE": "portal.settings", **os.environ}
    command = [sys.executable, "-m", "django", "fuse", *words]
    return subprocess.run(command, cwd=root, env=environment, check=False).returncode


def _read_recipe(path: Path) -> Json:
    text = path.read_text(encoding="utf-8")
    if path.suffix.lower() == ".json":
        found = json.loads(text)
    else:
        try:
            import yaml
        except ModuleNotFoundError:
            raise ValueError(f"{path}: YAML needs PyYAML; JSON is read without it") from None
        try:
            found = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(f"{path}: {error}") from error
    if not isinstance(found, dict):
        raise TypeError(f"{path}: found {type(found).__name__}, expected an object of keys")
    return found


def _json(found: Any) -> int:
    sys.stdout.write(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    return OK


def _table(*titles: str, title: str = "") -> Table:
    table = Table(*titles, title=title or None, title_justify="left")
    table.columns[0].overflow = "fold"
    return table


def _text(value: Any) -> str:
    if value is None or value in ("", []):
        return "unknown"
    if isinstance(value, list):
        return ", ".join(_text(one) for one in value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(one)}" for name, one in value.items())
    return str(value)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("imagingx", description="Find and fuse imaging datasets.")
    parser.add_argument("--url", help=f"of the portal; ${URL}, else {DEFAULT_URL}")
    parser.add_argument("--token", help=f"rather ${TOKEN}: others see the words of a command")
    parser.add_argument("--json", action="store_true", help="what the API answers")
    sub = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable[..., int], about: str) -> argparse.ArgumentParser:
        one = sub.add_parser(name, help=about, description=about)
        one.set_defaults(command=command)
        return one

    one = add("search", search, "datasets that fit, and those that nearly do")
    one.add_argument("text", nargs="*")
    one.add_argument("--filter", action="append", default=[], metavar="NAME=VALUE")
    one.add_argument("--limit", type=int, default=20)
    one = add("show", show, "one dataset")
    one.add_argument("slug")
    one.add_argument("--cite", choices=("text", "bibtex", "csl"), help="its citation alone")
    one = add("compare", compare, "two to six datasets side by side")
    one.add_argument("slugs", nargs="+", metavar="slug")
    for name, command, about in (
        ("blueprint", blueprint, "what a fusion of datasets would be, as JSON"),
        ("draft", draft, "its recipe as far as it goes, as JSON; what is to do is told beside it"),
    ):
        one = add(name, command, about)
        one.add_argument("slugs", nargs="*", metavar="slug")
        one.add_argument("--own", action="append", default=[], help="name of data you uploaded")
        one.add_argument("--mode", default="")
        one.add_argument("--task", default="")
    one = add("fuse", fuse, "start a fusion: a recipe file, or the name of a shipped recipe")
    one.add_argument("recipe")
    one.add_argument("--priority", choices=("low", "normal", "high"), default="normal")
    one.add_argument("--key", default="", help="the same key gives the same run")
    one.add_argument("--follow", action="store_true", help="until it has ended")
    one.add_argument("--local", action="store_true", help="in this process, into --out")
    one.add_argument("--out", default="", help="folder of the bundle, with --local")
    one = add("follow", follow, "watch a run until it has ended")
    one.add_argument("run")
    one = add("runs", runs, "runs that one may see")
    one.add_argument("--state", default="")
    for action in ("pause", "resume", "retry", "cancel"):
        one = add(action, steer, f"{action} a run")
        one.add_argument("run")
        one.set_defaults(action=action)
    add("bundles", bundles, "bundles that one may see")
    one = add("download", download, "a bundle, checked; goes on where it was interrupted")
    one.add_argument("bundle")
    one.add_argument("--out", default="", help="folder, or the tar file with --view")
    one.add_argument("--view", default="", help="nnunet, monai, bids or huggingface: as one tar")
    one = add("upload", upload, "own data: a folder, file or archive; goes on where it stopped")
    one.add_argument("source")
    one.add_argument("--name", default="", help="by which recipes call it")
    one.add_argument("--keep", action="store_true", help="once it is checked")
    one.add_argument(
        "--accept", action="store_true", help="with --keep: whatever the checks find about people"
    )
    one = add("uploads", uploads, "own data on the portal")
    one.add_argument("--delete", default="", metavar="ID")
    _of_an_account(add)
    add("mcp", mcp, "serve the portal as tools over stdio (Model Context Protocol)")
    return parser


def _of_an_account(add: Callable[..., argparse.ArgumentParser]) -> None:
    one = add("remove", remove, "a bundle of one's own; its recipe builds it again")
    one.add_argument("bundle")
    one.add_argument("--why", default="", help="what its page says; must be given if published")
    one = add("searches", searches, "saved searches")
    one.add_argument("--save", nargs="+", metavar="NAME=VALUE", help="q=fundus modality=OCT")
    one.add_argument("--name", default="", help="with --save")
    one.add_argument("--delete", type=int, metavar="ID")
    one = add("notify", notify, "be told when a run has ended: by mail, or by a POST to --to")
    one.add_argument("run")
    one.add_argument("--to", default="", dest="url_to_post", metavar="URL")

"""Verify a bundle, a folder or a tar of it, without trusting anything in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fusion.bundle.checks import CHECKS, Check, Subject
from fusion.bundle.errors import BundleError
from fusion.bundle.opened import open_bundle

MAX_PROBLEMS = 50


@dataclass(frozen=True)
class Checked:
    """One check; `detail` has a line per problem and is empty when all is well."""

    code: str
    name: str
    ok: bool
    detail: str = ""


@dataclass(frozen=True)
class Report:
    ok: bool
    checks: tuple[Checked, ...]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"checks": [asdict(check) for check in self.checks]}


def verify_bundle(path: Path | str, people: Iterable[str] = ()) -> Report:
    """Run every check; a check that cannot run because files are missing fails and says so.

    Args:
        path: folder or tar.
        people: names from the headers of the source files, which must not be in the bundle.

    Raises:
        BundleError: `path` is neither a folder nor a tar.
    """
    with open_bundle(Path(path)) as opened:
        subject = Subject(opened, tuple(people))
        checks = tuple(_run(code, *CHECKS[code], subject) for code in CHECKS)
    return Report(all(check.ok for check in checks), checks)


def _run(code: str, name: str, check: Check, subject: Subject) -> Checked:
    problems = list(islice(_problems(check, subject), MAX_PROBLEMS))
    return Checked(code, name, not problems, "\n".join(problems))


def _problems(check: Check, subject: Subject) -> Iterator[str]:
    try:
        yield from check(subject)
    except ValidationError:
        yield "manifest.json does not fit its schema"
    except (BundleError, OSError) as error:
        yield str(error)
    except Exception as error:  # noqa: BLE001 - broken files must end as a finding, not a traceback
        yield f"cannot be checked: {type(error).__name__}: {error}"

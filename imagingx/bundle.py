"""A downloaded bundle as torch data set or pandas table."""

from __future__ import annotations

import importlib
import importlib.util
import json
from pathlib import Path
from typing import Any

READER = "fusion.bundle.read_bundle"


def load_bundle(folder: Path | str, *, run_its_reader: bool = False) -> Any:
    """The bundle's reader: `cases()`, `image()`, `label()`, `annotated()`, `torch()`.

    Args:
        folder: of the bundle.
        run_its_reader: where Imaging-X itself is not installed, import `tools/read_bundle.py` of
            the bundle. That runs code that was downloaded: only for bundles that you trust.

    Raises:
        ImportError: no reader is installed, and the bundle's own may not be run.
    """
    try:
        reader: Any = importlib.import_module(READER)
    except ModuleNotFoundError:
        if not run_its_reader:
            raise ImportError(
                "no reader is installed; run_its_reader=True imports the bundle's own"
            ) from None
        path = Path(folder) / "tools" / "read_bundle.py"
        spec = importlib.util.spec_from_file_location("read_bundle", path)
        if spec is None or spec.loader is None:
            raise ImportError(f"{path}: found no reader") from None
        reader = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(reader)
    return reader.Bundle(folder)


def load_torch(
    folder: Path | str, split: str | None = None, fold: str | None = None, **how: bool
) -> Any:
    """A map-style data set of one split: {id, source, image, annotated, label?, classes?}."""
    return load_bundle(folder, **how).torch(split, fold)


def load_table(folder: Path | str) -> Any:
    """A pandas table with a row per case; needs the manifest alone.

    Columns: id, source, split (leave-one-source-out: one `split:<fold>` each), shape, annotated
    (concepts), bytes, and `class:<concept>` for classes (1 present, 0 absent, -1 uncertain;
    missing: nobody looked).
    """
    import pandas as pd

    manifest = json.loads((Path(folder) / "manifest.json").read_text(encoding="utf-8"))
    rows = [
        {
            "id": case["id"],
            "source": case["source"],
            **_split(case["split"]),
            "shape": tuple(case["shape"]),
            "annotated": list(case["annotated"]),
            "bytes": sum(file["bytes"] for file in case["files"]),
            **{f"class:{name}": value for name, value in (case["classes"] or {}).items()},
        }
        for case in manifest["cases"]
    ]
    return pd.DataFrame(rows)


def _split(found: str | dict[str, str]) -> dict[str, str]:
    if isinstance(found, str):
        return {"split": found}
    return {f"split:{fold}": split for fold, split in found.items()}

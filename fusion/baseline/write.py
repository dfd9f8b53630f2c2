"""The baseline's part of a bundle: figures, page, weights and their card.

It is outside the bundle's SHA256SUMS, which do not depend on the machine that built it; its own
are beside it.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fusion.baseline.card import model_card
from fusion.baseline.page import render
from fusion.bundle.names import BASELINE, SUMS
from fusion.bundle.text import sha256_of, write_bytes, write_json, write_text
from fusion.report.write import withheld

Row = Mapping[str, Any]
DOCUMENT, PAGE, CARD = "baseline.json", "baseline.html", "README.md"
WEIGHTS = ("weights.safetensors", "network.json")


def write_baseline(data: Row, plan: Row, trained: Path, bundle: Path) -> None:
    """Write `bundle`/baseline anew.

    Args:
        data: baseline.json.
        plan: a build's plan as data.
        trained: what training left: pictures, and the weights of the fused network.
        bundle: folder of the bundle.
    """
    out = bundle / BASELINE
    shutil.rmtree(out, ignore_errors=True)
    write_json(out / DOCUMENT, data)
    write_text(out / PAGE, render(data, trained, withheld(plan)))
    if all((trained / name).is_file() for name in WEIGHTS):
        for name in WEIGHTS:
            write_bytes(out / name, (trained / name).read_bytes())
        write_text(out / CARD, model_card(data, plan))
    names = sorted(path.name for path in out.iterdir())
    lines = (f"{sha256_of(out / name)}  {BASELINE}/{name}\n" for name in names)
    write_text(out / SUMS, "".join(lines))

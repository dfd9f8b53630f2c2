"""Model card of the fused network, as the Hugging Face Hub reads it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from fusion.baseline.cases import FUSED
from fusion.baseline.page import METRICS, arm_name, gain_rows, interval_words

Row = Mapping[str, Any]
PIPELINES = {
    "segmentation": "image-segmentation",
    "classification": "image-classification",
    "detection": "object-detection",
}
UNKNOWN = "unknown: nobody stated one"
NOT_CLINICAL = (
    "Not for clinical use, nor for any decision about a person: nothing was checked for it. It is "
    "a small network, trained to compare sources, not to be as good as can be."
)


def model_card(data: Row, plan: Row) -> str:
    """README.md beside the weights; `data` is baseline.json."""
    name = f"{data['title']}: fused baseline"
    found = _fused(data)
    head = ModelCardData(
        language="en",
        license="other",
        license_name="see-the-sources",
        library_name="monai",
        pipeline_tag=PIPELINES[data["task"]],
        tags=["medical-imaging", "dataset-fusion", "baseline", data["task"]],
        model_name=name,
        eval_results=[_eval(row, data) for row in found if row["value"] is not None] or None,
    )
    parts = [f"---\n{head.to_yaml()}\n---", f"# {name}", NOT_CLINICAL]
    parts += ["## What it is", _about(data)]
    parts += ["## Intended use", _uses(data)]
    parts += ["## Training data and licences", _sources(data, plan)]
    parts += ["## Figures", _figures(found, data)]
    parts += ["## Does fusing help?", _verdict(data)]
    parts += ["## Limits", _bullets(_limits(data, plan))]
    parts += ["## Training", _training(data)]
    return str(ModelCard("\n\n".join(parts) + "\n"))


def _fused(data: Row) -> list[Row]:
    """Figures of the fused network: the mean over the concepts, per source and metric."""
    return [row for row in data["matrix"] if row["arm"] == FUSED and row["concept"] is None]


def _eval(row: Row, data: Row) -> EvalResult:
    return EvalResult(
        task_type=PIPELINES[data["task"]],
        dataset_type=data["bundle_id"],
        dataset_name=data["title"],
        dataset_config=row["source"],
        dataset_split="test",
        metric_type=row["metric"],
        metric_name=METRICS[row["metric"]],
        metric_value=row["value"],
    )


def _about(data: Row) -> str:
    concepts = ", ".join(data["concepts"].values())
    return (
        f"A network for {data['task']} of {concepts}, trained on all {len(data['sources'])} "
        f"sources of the bundle `{data['bundle_id']}` together (tier {data['tier']}). "
        "`weights.safetensors` holds the weights, `network.json` says how an image is brought "
        "before it; `baseline.json` and `baseline.html` hold every figure."
    )


def _uses(data: Row) -> str:
    concepts = ", ".join(data["concepts"].values())
    out_of_scope = f"other concepts than {concepts}; other kinds of images; any use on people"
    return _bullets(
        [
            f"Comparing how {data['task']} carries over from one source to another.",
            "A starting point, or a baseline to beat, on the same splits.",
            f"Out of scope: {out_of_scope}.",
        ]
    )


def _sources(data: Row, plan: Row) -> str:
    rows = []
    for source in plan["sources"]:
        facts = source["description"]
        licence = facts.get("licence") or {}
        trained = [arm["n_train"] for arm in data["arms"] if arm["arm"] == f"single:{source['id']}"]
        rows.append([
            source["id"],
            facts.get("name") or source["id"],
            *(_licence(licence.get(part)) for part in ("images", "labels")),
            facts.get("doi") or facts.get("homepage") or "",
            max(trained, default=0) or "",
        ])  # fmt: skip
    head = ["source", "name", "licence of images", "licence of labels", "from", "training cases"]
    note = (
        "Weights are made from these images and labels. Whether they inherit the terms of the "
        "data is not settled: the strictest of the licences above is the safe reading. Nothing "
        "here is legal advice."
    )
    return f"{_table(head, rows)}\n\n{note}"


def _licence(value: object) -> str:
    if isinstance(value, Mapping):
        value = value.get("spdx") or value.get("ref")
    return str(value or UNKNOWN)


def _figures(rows: Sequence[Row], data: Row) -> str:
    if not rows:
        return "None: the network was not tested."
    shown = [
        [
            f"tested on {row['source']}",
            METRICS[row["metric"]] + (" (silver)" if row["silver"] else ""),
            "none" if row["value"] is None else f"{row['value']:.3f}",
            interval_words(row["ci"]) or row["reason"],
            row["n_cases"],
            row["n_groups"],
        ]
        for row in rows
    ]
    head = ["test cases", "metric", "value", "95 % interval", "cases", "groups"]
    note = (
        f"Mean over the concepts, and over {len(data['seeds'])} seed(s). Intervals are a bootstrap "
        "over groups; below 20 groups they are unreliable."
    )
    if any(row["silver"] for row in rows):
        note += " Silver: the test labels were mined from text."
    return f"{_table(head, shown)}\n\n{note}"


def _verdict(data: Row) -> str:
    gained = [
        [row["name"], row["about"], row["value"] or "none", row["ci"] or row["reason"]]
        for row in gain_rows(data)
    ]
    parts = [f"**{data['verdict'] or 'no verdict'}**", _bullets(data["reasons"])]
    if gained:
        parts.append(_table(["gain", "of", "change", "95 % interval"], gained))
    return "\n\n".join(parts)


def _limits(data: Row, plan: Row) -> list[str]:
    limits = [row["detail"] for row in data["findings"] if row["code"] == "shortcut_risk"]
    limits += [str(limit) for limit in plan.get("known_limits", [])]
    limits += list(data["notes"])
    limits += [
        f"{arm_name(arm['arm'])}, seed {arm['seed']}: {arm['reason']}"
        for arm in data["arms"]
        if arm["state"] != "done"
    ]
    return [*limits, NOT_CLINICAL]


def _training(data: Row) -> str:
    facts = data["training"]
    rows = [[key, _plain(value)] for key, value in sorted(facts.items())]
    arms = [arm for arm in data["arms"] if arm["arm"] == FUSED]
    rows += [
        [f"seed {arm['seed']}", f"best step {arm['best_step']} of {arm['steps']}"] for arm in arms
    ]
    return _table(["fact", "value"], rows)


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {one}" for key, one in sorted(value.items()))
    return str(value)


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in dict.fromkeys(lines))


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---" for _ in head], *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")

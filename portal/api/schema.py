"""What the schema says of every operation alike: errors have one shape, sign-in is optional."""

from __future__ import annotations

from typing import Any

PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemOut"}}}
FIRST_ERROR = "400"


def finish(result: dict[str, Any], generator: Any, **_: Any) -> dict[str, Any]:  # noqa: ARG001
    """Hook of drf-spectacular."""
    for path in result["paths"].values():
        for method, operation in path.items():
            _finish(operation)
            if method == "get":
                operation["responses"]["304"] = {"description": "You have it already"}
    _widen(result)
    return result


def _widen(part: Any) -> None:
    """Of "anything or null" anything is left: as a oneOf, null would fit both and so neither."""
    if isinstance(part, dict):
        if part.get("oneOf") == [{}, {"type": "null"}]:
            del part["oneOf"]
        for inner in part.values():
            _widen(inner)
    elif isinstance(part, list):
        for inner in part:
            _widen(inner)


def _finish(operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    for status, response in responses.items():
        content = response.get("content", {})
        if status >= FIRST_ERROR and "application/json" in content:
            content["application/problem+json"] = content.pop("application/json")
    responses["default"] = {"description": "Any error", "content": PROBLEM}
    if (ways := operation.get("security")) is not None and {} not in ways:
        ways.append({})

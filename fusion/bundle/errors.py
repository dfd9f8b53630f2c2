"""Errors of writing and reading a bundle."""

from __future__ import annotations


class BundleError(ValueError):
    """A bundle cannot be written or read; `code` is stable, the message names the thing."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

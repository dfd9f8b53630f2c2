"""The one error of this library that a build handles: it excludes a case and goes on."""

from __future__ import annotations


class CaseError(Exception):
    """One case cannot be used; `code` is stable, `message` names what was found and expected."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message

    def __reduce__(self) -> tuple[type[CaseError], tuple[str, str]]:
        # Readers run in child processes; the default pickling would lose the message.
        return type(self), (self.code, self.message)

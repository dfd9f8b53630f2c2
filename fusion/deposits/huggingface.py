"""A bundle as a dataset repository of the Hugging Face Hub, its first page as the card."""

from __future__ import annotations

import io
import re
from typing import Any, cast

from fusion.deposits.base import Parcel, Sent, Told
from fusion.errors import BuildError
from fusion.sources.huggingface import CREDENTIAL, client_of, endpoint
from fusion.sources.safety import FetchRules

__all__ = ["CREDENTIAL", "check_target", "send", "sent_files"]
SMALL_BYTES = 10_000_000  # of a file that is kept in memory until it is committed
_TARGET = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def check_target(target: str) -> None:
    """An account or organisation, and a name."""
    if not _TARGET.fullmatch(target):
        raise BuildError("deposit_refused", f"found {target!r}, expected account/name")


def sent_files(parcel: Parcel) -> list[tuple[str, int]]:
    """Every file as it is: the Hub's reader takes the shards."""
    return [(one["path"], one["bytes"]) for one in parcel.files]


def send(
    parcel: Parcel, target: str, rules: FetchRules, told: Told, *, private: bool = True, **_: Any
) -> Sent:
    """Large files first, each once; then one commit with all. The Hub knows what it has."""
    import httpx2
    from huggingface_hub import CommitOperationAdd
    from huggingface_hub.errors import HfHubHTTPError

    api = client_of(rules, seconds=600.0)
    done = 0
    try:
        api.create_repo(target, repo_type="dataset", private=private, exist_ok=True)
        additions = []
        for one in parcel.files:
            with parcel.opened(one["path"]) as file:
                # Buffered files go by LFS, which knows what is there; Xet would not.
                content = io.BytesIO(file.read()) if one["bytes"] <= SMALL_BYTES else file
                made = CommitOperationAdd(
                    path_in_repo=one["path"], path_or_fileobj=cast("Any", content)
                )
                if one["bytes"] > SMALL_BYTES:
                    api.preupload_lfs_files(target, [made], repo_type="dataset")
                additions.append(made)
            done += one["bytes"]
            told(done)
        api.create_commit(
            target, additions, repo_type="dataset", commit_message=f"Bundle {parcel.short}"
        )
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in {401, 403}:
            raise BuildError(
                "access_denied",
                f"Hugging Face Hub: answered {status}: the account of {CREDENTIAL} may not write "
                f"to {target}",
            ) from error
        raise BuildError(
            "source_failed", f"Hugging Face Hub: {target}: answered {status}"
        ) from error
    except (httpx2.HTTPError, OSError, RuntimeError, ValueError) as error:
        said = str(error.__cause__ or error)  # the client wraps what happened to one file
        reason = (said.splitlines() or [type(error).__name__])[0]
        raise BuildError("source_failed", f"Hugging Face Hub: {target}: {reason}") from error
    return Sent(f"{endpoint()}/datasets/{target}", remote=target)

"""Sources on the Hugging Face Hub, through its own client."""

from __future__ import annotations

from pathlib import Path

from fusion.errors import BuildError


def acquire(repo_id: str, revision: str, allow_patterns: list[str], cache: Path) -> Path:
    """Download one commit of a dataset repository; files already there are not fetched again.

    Args:
        repo_id: owner/name.
        revision: full commit hash.
        allow_patterns: which files; empty means all.
        cache: folder shared by runs.

    Raises:
        BuildError: gated, missing, or not reachable; the message says which.
    """
    # The client is imported here: it costs a second that web pages need not pay.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    where = f"Hugging Face dataset {repo_id} at {revision[:12]}"
    try:
        folder = snapshot_download(
            repo_id,
            repo_type="dataset",
            revision=revision,
            allow_patterns=allow_patterns or None,
            cache_dir=cache / "huggingface",
        )
    except GatedRepoError as error:
        raise BuildError(
            "source_failed", f"{where} is gated: accept its terms on the Hub and set HF_TOKEN"
        ) from error
    except RepositoryNotFoundError as error:
        raise BuildError(
            "source_failed", f"{where}: no such repository, or private and HF_TOKEN is not set"
        ) from error
    except RevisionNotFoundError as error:
        raise BuildError("source_failed", f"{where}: no such commit") from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise BuildError("source_failed", f"{where}: not fetched: {reason}") from error
    return Path(folder)

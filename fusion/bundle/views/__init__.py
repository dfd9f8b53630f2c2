"""Views: how other tools see the bundle's pixels. Pure functions of the manifest.

A bundle holds every pixel once, in its shards. Of a view it holds the small descriptive files
only, below `views/<name>/`; `materialise` adds the pixel files where somebody wants them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from fusion.bundle.errors import BundleError
from fusion.bundle.manifest import Manifest
from fusion.bundle.views import bids, huggingface, monai, nnunet
from fusion.bundle.views.view import Make, View

VIEWS: Mapping[str, Make] = MappingProxyType(
    {
        "nnunet": nnunet.view,
        "monai": monai.view,
        "bids": bids.view,
        "huggingface": huggingface.view,
    }
)


def make_view(name: str, manifest: Manifest, *, lossy: bool = False) -> View:
    """One view of a bundle.

    Raises:
        BundleError: view_unknown; lossy_refused, where the format needs no such thing.
    """
    if name not in VIEWS:
        raise BundleError("view_unknown", f"view: found {name!r}, expected one of {list(VIEWS)}")
    if not lossy:
        return VIEWS[name](manifest)
    if name != "nnunet":
        raise BundleError("lossy_refused", f"{name} says what was annotated: it needs no --lossy")
    return nnunet.view(manifest, lossy=True)


def descriptions(manifest: Manifest, names: Iterable[str]) -> dict[str, View]:
    """The views of a bundle in order of name; `facts` of each go to the manifest."""
    return {name: make_view(name, manifest) for name in sorted(names)}

"""Client of an Imaging-X Portal: find, compare and fuse datasets, download and load bundles.

    from imagingx import Client

    with Client("https://portal.example") as portal:
        for hit in portal.search("retinal vessel segmentation")["results"]:
            print(hit["slug"], hit["name"])

Needs httpx, and rich for the command line; it imports nothing of the portal itself.
"""

from imagingx.bundle import load_bundle, load_table, load_torch
from imagingx.client import Client
from imagingx.connection import ProblemError
from imagingx.transfer import ChecksumError

__all__ = ["ChecksumError", "Client", "ProblemError", "load_bundle", "load_table", "load_torch"]

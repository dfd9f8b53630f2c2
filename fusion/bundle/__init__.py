"""The result of a fusion run as files: written, verified, read and streamed.

Plain library: numpy, nibabel, Pillow and pydantic; no Django. `write_bundle` writes one bundle,
`verify_bundle` checks one without trusting it, `Bundle` reads one, `BundleTar` streams one.
"""

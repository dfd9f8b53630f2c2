"""The quality report of a bundle: pictures, distributions, findings. Self-contained HTML."""

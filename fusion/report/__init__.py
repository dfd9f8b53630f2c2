"""The quality report of a bundle: pictures, distributions, findings. Self-contained HTML."""

from fusion.report.write import FOLDER, REPORT_FILE, write_report

__all__ = ["FOLDER", "REPORT_FILE", "write_report"]

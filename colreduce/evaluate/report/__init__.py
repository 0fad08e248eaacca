"""An evaluation as one HTML file that needs nothing else: no network, no scripts, no fonts."""

from colreduce.evaluate.report.page import page, write_report

__all__ = ["page", "write_report"]

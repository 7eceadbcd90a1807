"""Reports and figures of runs, read from their directories alone."""

from unplateau.report.page import write_report, write_results
from unplateau.report.plots import figures, save_figures

__all__ = ["figures", "save_figures", "write_report", "write_results"]

"""A report on clusters for people: one HTML file."""

from cosmeans.report.write import check_options, write_report

__all__ = ["check_options", "write_report"]

"""The answer of a study: its tables, figures and page, from the files of its folder alone."""

from robustness.reports.studies.study import StudyReport, build_study, load_study, write_study

__all__ = ["StudyReport", "build_study", "load_study", "write_study"]

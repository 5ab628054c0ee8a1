"""The answer of a study: its tables, figures and page, from the files of its folder alone."""

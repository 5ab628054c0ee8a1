"""report.html: its tables, figures and texts."""

"""Tasks with free-text answers: parsing of responses and metrics of parsed answers."""

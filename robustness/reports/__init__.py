"""From stored outcomes to tables and the page; nothing here needs a model."""

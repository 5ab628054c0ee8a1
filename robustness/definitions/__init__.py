"""TOML files as strict typed data, and the catalog that finds them."""

"""Attack recipes: transformations, constraints and searches, built from TOML or from a user's file."""

"""Attack recipes: transformations, constraints and searches, put together from data or from a user's file."""

"""Language models of recipes: words in context, similarity of meaning."""

"""Language models that recipes ask: words in context, nearness in meaning."""

"""Question answering: windows of a paragraph, their likeliest spans, and the loss and gradients of the gold ones."""

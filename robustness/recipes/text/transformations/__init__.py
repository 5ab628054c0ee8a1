"""The forms that one word can take, or a whole text at once."""

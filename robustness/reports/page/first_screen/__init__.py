"""The first screen of the page: the answer, and what it rests on, at one look."""

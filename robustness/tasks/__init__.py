"""Tasks: what is asked, what is right, and how an answer is graded; needs neither torch nor a model."""

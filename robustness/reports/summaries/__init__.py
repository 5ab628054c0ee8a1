"""What a run says in words: answers, reasons, the last screen."""

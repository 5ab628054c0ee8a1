"""Tasks that are answered with free text: how a response is parsed, and how right what was parsed is."""

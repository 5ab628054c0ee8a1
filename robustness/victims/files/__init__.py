"""What a checkpoint's files say: configs, weights, adapters, tokenizers."""

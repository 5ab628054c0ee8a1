"""What recipes read beside their own files: word lists, thesauri, pretrained models."""

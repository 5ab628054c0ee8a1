"""Assets of recipes: word lists, thesauri, pretrained models."""

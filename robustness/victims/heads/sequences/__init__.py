"""Whole responses as functions of a prompt's word embeddings: their margin, their loss, and what else is decoded."""

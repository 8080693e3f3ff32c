"""Cached values with tags: each is computed once, however many callers and processes ask."""

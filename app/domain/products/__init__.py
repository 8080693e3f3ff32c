"""The product catalogue: products in categories, read through the cache and written by editors."""

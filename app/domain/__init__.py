"""The example: a live news service, one package a slice, each from its routes down to its tables."""

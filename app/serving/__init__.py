"""Serving: Hypercorn's protocols in connections, workers and a supervisor of our own (docs/serving.md)."""

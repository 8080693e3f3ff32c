"""Cached responses of routes (RFC 9110, RFC 9111)."""

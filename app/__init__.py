"""Quartet: an asynchronous service on Quart and Redis."""

__version__ = "0.1.0"

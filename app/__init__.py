"""Quartet: an asynchronous service on Quart and Redis."""

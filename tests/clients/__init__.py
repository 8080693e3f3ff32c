"""Clients that users have, at the application as it is served."""

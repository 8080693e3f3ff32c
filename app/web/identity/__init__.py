"""Credentials, the principal, and the browser's session."""

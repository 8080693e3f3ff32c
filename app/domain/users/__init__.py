"""Accounts: registration, login, sessions, API keys."""

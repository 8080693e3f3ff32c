"""Quart adapters over the kit."""

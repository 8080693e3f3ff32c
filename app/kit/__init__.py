"""The Redis building blocks: asyncio and redis only, no web framework, nothing else of the application."""

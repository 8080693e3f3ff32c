"""The routes of the service itself."""

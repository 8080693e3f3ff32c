"""The web pages: HTML for people, over the same services as the API."""

"""News articles: lists, views, and a summary and keywords made in the background."""

"""The edge: what it does for every request, and what it asks and answers early."""

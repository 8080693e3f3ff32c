"""Pages for people: what every page shows, forms, and errors as pages."""

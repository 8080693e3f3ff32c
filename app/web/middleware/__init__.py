"""Steps of every request, before and after its view."""

"""Rate limits of routes: declared by decorators, enforced before the view."""

"""The outermost layer: what every request and response has, before and after the framework."""

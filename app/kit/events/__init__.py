"""Live events: published with a history, fanned out to open streams, resumed without a gap."""

"""One asynchronous client for every deployment of Redis: embedded, server, Sentinel, Cluster."""

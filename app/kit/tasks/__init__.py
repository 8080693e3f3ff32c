"""Background tasks: at least once, none lost when a worker dies. The queue in Redis, the worker, the schedule."""

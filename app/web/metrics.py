"""What is measured outside the kit: requests, connections, the outbox, and the process."""

from app.kit.metrics import KIT_METRICS, Metric, counter, gauge, histogram

METRICS: tuple[Metric, ...] = (
    *KIT_METRICS,
    counter("http_requests", "Answers.", "method", "route", "status"),
    histogram("http_request_seconds", "Time to the first byte of the answer.", "route"),
    gauge("http_requests_in_flight", "Requests whose answer has not begun."),
    counter("connections_ended", "Connections that the server ended early.", "reason"),
    gauge("connections_open", "Open connections."),
    counter("outbox_sent", "Messages of the outbox that were delivered."),
    counter("outbox_delayed", "Messages of the outbox whose delivery failed, and is tried again."),
    counter("outbox_refused", "Messages of the outbox that cannot be delivered."),
    gauge("database_connections", "Connections of the pool, in use or idle.", "database", "state"),
    gauge("gc_pause_seconds", "Time in the garbage collector since the start."),
    gauge("app_info", "1, with the version.", "version", is_shared=True),
)

"""What the kit measures: each metric is declared here once. Names end in their unit, as Prometheus advises."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]

SECONDS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)


@dataclass(frozen=True, slots=True)
class Metric:
    """`name` has no prefix; a counter's is exposed with `_total`. Histograms are of seconds.

    `is_shared`: the value is read from Redis, so that it is the same in each worker process of a node.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    is_shared: bool = False


def counter(name: str, help: str, *labels: str) -> Metric:
    return Metric(name, "counter", help, labels)


def gauge(name: str, help: str, *labels: str, is_shared: bool = False) -> Metric:
    return Metric(name, "gauge", help, labels, is_shared)


def histogram(name: str, help: str, *labels: str) -> Metric:
    return Metric(name, "histogram", help, labels)


CLIENT = (
    counter("redis_outages", "Calls of a block that failed because Redis did not answer.", "block"),
    counter("redis_defects", "Calls of a block that Redis refused, as by a missing permission.", "block"),
    gauge("redis_breaker_open", "1 while the circuit breaker of the server is open.", "server"),
    gauge("redis_commands", "Commands sent since the start.", "server"),
    gauge("redis_batches", "Batches of commands written since the start; each is one round trip.", "server"),
    gauge("redis_replies", "Replies read since the start.", "server"),
    gauge("redis_connects", "Connections made since the start.", "server"),
    gauge("redis_connect_failures", "Attempts to connect that failed since the start.", "server"),
    gauge("redis_breaks", "Connections lost since the start.", "server"),
    gauge("redis_repeats", "Commands sent again after a lost reply since the start.", "server"),
    gauge("redis_timeouts", "Commands whose caller stopped waiting since the start.", "server"),
    gauge("redis_refused", "Commands refused at once by an open breaker since the start.", "server"),
    gauge("redis_stalls", "Times since the start that the event loop itself was late.", "server"),
    gauge("redis_connected", "1 while there is a connection to the server.", "server"),
    gauge("redis_dedicated", "Connections beside the pipeline's, for commands that block.", "server"),
    gauge("redis_refreshes", "Readings of a cluster's slot map since the start.", "server"),
    gauge("redis_moves", "MOVED redirections of a cluster since the start.", "server"),
    gauge("redis_asks", "ASK redirections of a cluster since the start.", "server"),
    gauge("redis_opened", "Times since the start that the breaker opened.", "server"),
)

LIMITS = (counter("rate_limit", "Checks of a rate limit.", "policy", "outcome"),)

CACHE = (
    counter("cache_hits", "Values found.", "name"),
    counter("cache_misses", "Values not found.", "name"),
    counter("cache_stale", "Values served in their grace.", "name"),
    counter("cache_waits", "Callers that waited for another's computation.", "name"),
    counter("cache_computes", "Computations begun.", "name"),
    counter("cache_bypassed", "Values computed and not to be stored, or without Redis.", "name"),
    counter("cache_corrupt", "Entries that could not be decoded.", "name"),
    counter("cache_fenced", "Values not stored, because their lease had ended.", "name"),
    counter("cache_unstored", "Values not stored.", "name", "reason"),
    counter("cache_stored_bytes", "Bytes of the values stored.", "name"),
    histogram("cache_compute_seconds", "Time of a computation.", "name"),
)

SESSIONS = (
    counter("session_rejected", "Ids and records that made no session.", "reason"),
    counter("session_unreachable", "Operations that Redis did not answer.", "operation"),
    counter("session_unstorable", "Requests refused, because a session cannot hold what they put into it."),
)

EVENTS = (
    counter("events_published", "Events published by this process."),
    counter("events_deliveries", "Events handed to streams."),
    counter("events_writes", "Writes to streams."),
    counter("events_joined_writes", "Writes that carried several events."),
    counter("events_replayed", "Events read from the history for a client that came back."),
    counter("events_resyncs", "Streams told to load their state anew.", "reason"),
    counter("events_gaps", "Channels whose events were read from the history after a loss."),
    counter("events_connection_lost", "Losses of the pub/sub connection."),
    counter("events_malformed", "Messages that are no event."),
    counter("events_streams_closed", "Streams ended by the server.", "reason"),
    counter("events_streams_refused", "Streams refused.", "reason"),
    counter("events_handler_failed", "Failures of an event handler.", "handler"),
    counter("events_handler_gave_up", "Events that a handler failed on for the last time.", "handler"),
    counter("events_unhandled", "Events of a type without a handler."),
    counter("events_poisonous", "Events that the subscriber could not decode."),
    gauge("events_streams", "Open streams."),
    gauge("events_channels", "Channels subscribed to."),
    gauge("events_queued_bytes", "Bytes that wait to be written to streams."),
    gauge("events_users_online_here", "Users with a stream on this process."),
    histogram("events_delivery_lag_seconds", "Time from the publication to the hand-over to streams."),
)

TASKS = (
    counter("task_starts", "Attempts begun.", "task"),
    counter("task_ends", "Attempts ended.", "task", "outcome"),
    counter("task_reports_refused", "Reports of a lost lease, which the queue refused."),
    counter("task_worker_deaths", "Leases that expired."),
    counter("task_poisoned", "Tasks dead, because their workers died."),
    counter("task_expired", "Tasks that expired before they could start."),
    counter("task_events_dropped", "Task events that could not be published."),
    counter("task_lease_renewals", "Renewals of leases.", "outcome"),
    counter("task_schedule_errors", "Failures to enqueue what was due."),
    counter("task_wake_errors", "Failures of the wait for a task."),
    counter("task_step_errors", "Failures of the step that claims and reports."),
    gauge("task_queue_up", "Whether the queue could be read.", "queue", is_shared=True),
    gauge("task_queue_depth", "Tasks in a place of the queue.", "queue", "place", is_shared=True),
    gauge("task_queue_oldest_seconds", "How long the oldest waiting task has waited.", "queue", is_shared=True),
    gauge("task_queue_totals", "Tasks that ended so far, by all workers.", "queue", "outcome", is_shared=True),
    histogram("task_seconds", "Time of an attempt.", "task"),
    histogram("task_wait_seconds", "Time from the due time to the start.", "task"),
    histogram("task_loop_lag_seconds", "How late the worker's event loop runs a timer."),
)

PROCESS = (
    counter("job_restarts", "Background jobs that a defect ended, and that were started again.", "name"),
    histogram("loop_lag_seconds", "How late the event loop ran a timer, measured once a second."),
)

KIT_METRICS: tuple[Metric, ...] = (*PROCESS, *CLIENT, *LIMITS, *CACHE, *SESSIONS, *EVENTS, *TASKS)

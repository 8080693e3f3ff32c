"""RQ, the server in REDIS_URL: its SimpleWorker, which runs one task after the other without a process for each."""

import os

from redis import Redis
from rq import Queue, SimpleWorker

from bench.queue_load import URL, count_task, measure_threads


def main() -> None:
    redis = Redis.from_url(URL)
    queue = Queue(f"bench{os.getpid()}", connection=redis)
    worker = SimpleWorker([queue], connection=redis)
    measure_threads(
        lambda number: queue.enqueue(count_task, number, result_ttl=3600),
        lambda: worker.work(logging_level="ERROR"),
    )


if __name__ == "__main__":
    main()

"""Celery, the server in REDIS_URL, with a pool of 32 threads."""

import os

from celery import Celery

from bench.queue_load import CONCURRENCY, URL, count_task, measure_threads

app = Celery("bench", broker=URL, backend=URL)
app.conf.update(task_default_queue=f"bench{os.getpid()}", result_expires=3600, worker_redirect_stdouts=False)
noop = app.task(name="noop")(count_task)


def main() -> None:
    options = ["--pool=threads", f"--concurrency={CONCURRENCY}", "--loglevel=ERROR"]
    measure_threads(noop.delay, lambda: app.worker_main(["--quiet", "worker", *options]))


if __name__ == "__main__":
    main()

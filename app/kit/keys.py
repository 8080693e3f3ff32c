"""The only place where key names of the blocks are spelled; a slice spells its own with Keys.own().

The keys of one script share a hash tag ({...}), so that it runs on a Redis Cluster; every tag and name has the
namespace, so that two applications can use one server. Callers pass names that they have validated or hashed: what a
client sends never becomes part of a key unchecked.
"""

import hashlib
from dataclasses import dataclass


def digest(value: str | bytes) -> str:
    """SHA-256, hexadecimal, of a value that must not appear in a key itself."""
    return hashlib.sha256(value.encode() if isinstance(value, str) else value).hexdigest()


@dataclass(frozen=True, slots=True)
class Keys:
    """Key names of one application. `namespace` matches [a-z0-9][a-z0-9_-]*."""

    namespace: str

    # Sessions: record, user index and epoch of one bucket share its tag. An empty last part gives a prefix, to which a
    # script appends an id that it reads.
    def session(self, bucket: str, session_digest: str) -> str:
        return f"{{{self.namespace}:session:{bucket}}}:id:{session_digest}"

    def session_index(self, bucket: str, user_id: int | str) -> str:
        return f"{{{self.namespace}:session:{bucket}}}:user:{user_id}"

    def session_epoch(self, bucket: str, user_id: int) -> str:
        return f"{{{self.namespace}:session:{bucket}}}:epoch:{user_id}"

    def session_superseded(self, bucket: str, session_digest: str) -> str:
        return f"{{{self.namespace}:session:{bucket}}}:superseded:{session_digest}"

    def session_call(self, bucket: str, call: str) -> str:
        return f"{{{self.namespace}:session:{bucket}}}:call:{call}"

    # A pub/sub channel, and no key: all credentials that end are told there.
    def revocations(self) -> str:
        return f"{self.namespace}:revocations"

    # Cache: an entry and its lease share a tag; tag versions are in any slot.
    def cache_entry(self, entry_digest: str) -> str:
        return f"{{{self.namespace}:cache:{entry_digest}}}"

    def cache_lease(self, entry_digest: str) -> str:
        return f"{{{self.namespace}:cache:{entry_digest}}}:lease"

    def cache_tag(self, tag: str) -> str:
        return f"{self.namespace}:tag:{tag}"

    # Rate limits: every limit of a request is checked by one script, so all share one tag.
    def limit(self, policy: str, subject_digest: str) -> str:
        return f"{{{self.namespace}:limit}}:{policy}:{subject_digest}"

    def limit_check(self, check_digest: str) -> str:
        return f"{{{self.namespace}:limit}}:/check:{check_digest}"

    # Events: histories, their last ids and the clock are written by one script. Pub/sub channels are no keys.
    def event_clock(self) -> str:
        return f"{{{self.namespace}:events}}:clock"

    def event_stream(self, channel: str) -> str:
        return f"{{{self.namespace}:events}}:stream:{channel}"

    def event_last(self, channel: str) -> str:
        return f"{{{self.namespace}:events}}:last:{channel}"

    def event_seen(self, event_id: str) -> str:
        return f"{{{self.namespace}:events}}:seen:{event_id}"

    def event_epoch(self) -> str:
        return f"{{{self.namespace}:events}}:epoch"

    def presence(self, name: str) -> str:
        return f"{{{self.namespace}:events}}:presence:{name}"

    def presence_of_node(self, node: str) -> str:
        """The users of a node; without one, the prefix to which the script appends one that it reads."""
        return self.presence(f"node:{node}")

    def event_channel(self, channel: str) -> str:
        return f"{self.namespace}:events:{channel}"

    # Tasks: everything of one queue shares a tag.
    def task_prefix(self, queue: str) -> str:
        """The prefix of each key of a queue; the scripts append the ids of tasks that they read."""
        return f"{{{self.namespace}:{queue}}}:"

    def task_places(self, queue: str) -> list[str]:
        """KEYS of every task script: ready lists by priority, sched, lease, dead, wake, aborts, stat, workers, limited.

        limited: the names of tasks of which some wait for a limit.
        """
        ready = ("ready:high", "ready:normal", "ready:low")
        rest = ("sched", "lease", "dead", "wake", "aborts", "stat", "workers", "limited")
        return [self.task_prefix(queue) + place for place in (*ready, *rest)]

    def task_wake(self, queue: str, worker_id: str = "") -> str:
        """The wake list of all workers, or that of one."""
        return self.task_prefix(queue) + (f"wake:{worker_id}" if worker_id else "wake")

    def task_workers(self, queue: str) -> str:
        return self.task_prefix(queue) + "workers"

    def task_schedules(self, queue: str) -> str:
        return self.task_prefix(queue) + "schedules"

    def task_limited(self, queue: str) -> str:
        return self.task_prefix(queue) + "limited"

    def task_parked(self, queue: str, task_name: str) -> str:
        return f"{self.task_prefix(queue)}parked:{task_name}"

    def task_totals(self, queue: str) -> str:
        return self.task_prefix(queue) + "stat"

    def task_record(self, queue: str, task_id: str) -> str:
        """`task_id` is valid by app.kit.tasks.model.is_task_id()."""
        return f"{self.task_prefix(queue)}t:{task_id}"

    def own(self, name: str) -> str:
        """A key of the application's own, beside those of the blocks. `name` is a constant, without braces.

        All of it is the hash tag: with a suffix (`keys.own("name") + ":part"`) it lies in the same slot.
        """
        return f"{{{self.namespace}:own:{name}}}"

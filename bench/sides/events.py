"""Quartet's event streams."""

from bench.event_streams import print_figures

if __name__ == "__main__":
    print_figures("bench.sides.events_server", path="/api/v1/events", mark_of_begin=b"\nid: ")

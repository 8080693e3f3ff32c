"""The peers' event streams: SERVER names one."""

import os

from bench.event_streams import print_figures

if __name__ == "__main__":
    print_figures(f"bench.sides.peer_{os.environ['SERVER']}_events")

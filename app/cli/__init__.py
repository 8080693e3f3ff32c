"""The `quartet` command: `python -m app.cli`, or `quartet` where the project is installed."""

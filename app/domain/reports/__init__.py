"""Reports: tables over a range of days, made by a task in chunks, kept for a day, downloaded as CSV or JSON."""

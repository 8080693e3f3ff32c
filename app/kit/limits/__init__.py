"""Rate limits: sliding log, sliding window counter and GCRA."""

"""Runs: states, verbs, the executor that drives them, their events. Knows nothing of HTTP."""

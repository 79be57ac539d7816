"""The tools that the server runs itself: what a model is told of them, and what its calls do.

Knows nothing of runs, of their events and of HTTP.
"""

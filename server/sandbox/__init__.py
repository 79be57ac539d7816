"""Python sessions that nothing can get out of: code of strangers, run beside the server.

Knows nothing of runs, rows or HTTP.
"""

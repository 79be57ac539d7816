"""Text out of documents, and finding passages in it again.

Knows files' bytes and the engine; nothing of HTTP, of rows and of runs.
"""

"""Files: their bytes on the disk, and what callers do to them.

Knows rows and blobs; nothing of HTTP, of runs and of models.
"""

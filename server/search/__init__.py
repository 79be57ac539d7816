"""Search: text out of documents, text to chunks, chunks to vectors, and queries to hits.

Knows of files by path and of vector stores by id; nothing of rows, runs or HTTP.
"""

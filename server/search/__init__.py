"""Documents to text, text to chunks: what is found in files, and where.

Knows files as bytes with a name; nothing of HTTP, of vector stores, of runs and of prompts.
"""

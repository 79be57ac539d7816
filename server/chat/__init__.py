"""A conversation to the pieces of a prompt, and the model's text back to answers and calls.

Knows nothing of rows, HTTP or llama.cpp.
"""

"""Vector stores: which files are in them, how these get there, and what is found in them.

Text and vectors are the affair of `search`; here are the rows, and the order of things.
"""

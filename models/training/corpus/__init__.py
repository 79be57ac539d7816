"""Synthetic conversations that teach the bundled model.

Pure Python: a document depends on the seed, its number and this package, and on nothing else.
"""

from corpus.build import REFINING, conversation, digest, is_held, sample

__all__ = ["REFINING", "conversation", "digest", "is_held", "sample"]

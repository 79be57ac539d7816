"""Tokens in, tokens out: many sequences per decode step.

Knows nothing of messages, rows or HTTP.
"""

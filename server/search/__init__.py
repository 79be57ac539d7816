"""Texts of files made searchable: what is in them, and what of it answers a question.

Knows files by their ids and text, and nothing of rows, runs or HTTP.
"""

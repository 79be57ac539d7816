"""Rows in SQLite: tables, the only transaction code, and the queries. No rule is here."""

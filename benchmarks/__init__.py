"""Measurements that back every figure we quote. See README.md here."""

"""Fixtures for plugin authors, installed with ``c2s``; light, because every run of pytest imports it."""

"""Databases that keep galleries; pyproject.toml names them as entry points of ``anglehash.backends``."""

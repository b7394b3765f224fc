"""Adapters, one runtime each. Imported only by engine.load_backend."""

"""Engines: from a spec to something that computes frames, whole, in parts, or only what changed."""

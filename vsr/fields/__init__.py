"""Interlaced video: which field comes first, whether a picture is interlaced at all, and full pictures out of it."""

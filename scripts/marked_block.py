"""The blocks of a page that a script writes, each between two marks."""

from __future__ import annotations


def replaced(page: str, begin: str, end: str, content: str) -> str:
    """`page` with what stands between the lines `begin` and `end` replaced.

    Raises:
        ValueError: it does not hold the marks once each, in order.
    """
    before, found, rest = page.partition(f"{begin}\n")
    _, closed, after = rest.partition(end)
    if not found or not closed or begin in after or end in before + after:
        raise ValueError(f"the page must hold {begin} and {end} once each, in this order")
    return f"{before}{begin}\n{content.strip()}\n{end}{after}"

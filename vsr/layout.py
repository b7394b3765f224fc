"""Text for a terminal that may be narrow: paragraphs with a hanging indent, and tables that become lists.

A width of None stands for no limit: what goes into a pipe or a file keeps one line for each thing, so that `grep`
finds it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Final

NARROW_INDENT: Final = 4
GUTTERS: Final = (2, 1)


def paragraph(text: str, width: int | None, indent: int = 0) -> str:
    """`text` in lines of at most `width` characters, all but the first indented.

    Words are never broken, so that paths can be copied; one that is longer than the line stands on a line alone.

    Args:
        text: without line breaks that matter.
        width: of the terminal, in characters; None leaves the text as it is.
        indent: spaces before the second and later lines; less where it would leave no half of the width.
    """
    if width is None or len(text) <= width:
        return text
    lines = textwrap.wrap(
        text,
        width,
        subsequent_indent=" " * (indent if 2 * indent <= width else NARROW_INDENT),
        break_long_words=False,
        break_on_hyphens=False,
        replace_whitespace=False,  # columns at the beginning of the line stay where they are
    )
    return "\n".join(lines)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], width: int | None) -> str:
    """A table, the first column to the left and the others to the right.

    Where it is wider than `width`, each row becomes its name and a list of what is in it.
    """
    widths = [max(len(line[i]) for line in (heads, *rows)) for i in range(len(heads))]
    for gutter in GUTTERS:
        if width is None or sum(widths) + gutter * (len(widths) - 1) <= width:
            lines = []
            for line in (heads, *rows):
                padded = [c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))]
                lines.append((" " * gutter).join(padded).rstrip())
            return "\n".join(lines)
    found = []
    for row in rows:
        items = ", ".join(f"{head} {cell}".strip() for head, cell in zip(heads[1:], row[1:], strict=True) if cell)
        found += [paragraph(row[0], width, NARROW_INDENT), paragraph(" " * NARROW_INDENT + items, width, NARROW_INDENT)]
    return "\n".join(found)

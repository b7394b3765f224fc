"""Help that lists a command's options under headings, for commands that have many."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click


class SectionedCommand(click.Command):
    """A command whose help groups its options.

    Args:
        sections: heading to the names of its options, as parameters of the function, in the order of the help. The
            last one also gets what none names, such as --help.
        arguments: as for `click.Command`.
    """

    def __init__(self, *, sections: Mapping[str, tuple[str, ...]], **arguments: Any) -> None:
        super().__init__(**arguments)
        self.sections = sections

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, section by section."""
        options = [p for p in self.get_params(ctx) if isinstance(p, click.Option)]
        records = {p.name: record for p in options if (record := p.get_help_record(ctx)) is not None}
        for number, (heading, names) in enumerate(self.sections.items(), 1):
            listed = [records.pop(name) for name in names]
            with formatter.section(heading):
                formatter.write_dl(listed if number < len(self.sections) else [*listed, *records.values()])

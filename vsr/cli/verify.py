"""`vsr verify`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from vsr.cli.part_options import part_options_of_output
from vsr.cli.size_options import chosen_scale, size_options

EPILOG = """\b
Examples:
  vsr verify input.mp4 out.mp4
  vsr verify input.mkv out.mp4 --allow-dropped --json
  vsr verify frame_%05d.png big_%05d.png --decode
  vsr verify dvd.mkv out.mkv --size 1080p --square-pixels
  vsr verify film.mkv scene.mkv --start 1:02:30 --duration 90
"""


@click.command("verify", epilog=EPILOG)
@click.argument("input", type=click.Path(path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
@click.option(
    "--decode", is_flag=True, help="Decode every picture of both files, and see that each looks like its original."
)
@click.option(
    "--allow-dropped", is_flag=True, help="Accept missing streams, and what OUTPUT's container has no place for."
)
@part_options_of_output
@click.option("--field-rate", is_flag=True, help="OUTPUT was made with --field-rate: interlaced frames became two.")
@size_options
@click.option("-q", "--quiet", is_flag=True, help="Only differences.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(
    input: Path,
    output: Path,
    decode: bool,
    allow_dropped: bool,
    map: tuple[str, ...],
    video_stream: int | None,
    field_rate: bool,
    scale: float | None,
    size: str | None,
    fit: str,
    square_pixels: bool,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Prove that OUTPUT is INPUT, larger and otherwise untouched.

    Frame count, every time stamp, sizes, streams, packets of copied streams, chapters, tags, languages, dispositions,
    attachments, colour tags, rotation, HDR metadata and the offset of sound are compared. Exits with 1 if anything
    differs. Of stills and image sequences: count, numbers, sizes, channels, bits, colour profiles, EXIF data and XMP.
    Say what size was asked for if it was no whole factor, or if samples were made square.
    """
    from vsr.cli.console import width
    from vsr.comparison.compare import compare
    from vsr.comparison.compare_pictures import compare_pictures, has_pictures
    from vsr.copying.selection import Selection
    from vsr.layout import paragraph
    from vsr.size import SizeRequest
    from vsr.trim import Trim

    asked = scale is not None or size is not None or square_pixels
    request = SizeRequest(chosen_scale(scale, size), size, fit, square_pixels) if asked else None
    trim, selection = Trim.parse(**options), Selection.parse(map, video_stream)
    if has_pictures(input, output):
        result = compare_pictures(input, output, size=request, decode=decode, trim=trim)
    else:
        result = compare(
            input,
            output,
            size=request,
            decode=decode,
            allow_dropped=allow_dropped,
            trim=trim,
            selection=selection,
            field_rate=field_rate,
        )
    if as_json:
        click.echo(json.dumps(result.to_dict(), indent=2))
    else:
        shown = result.differences if quiet else result.checks
        longest = max((len(c.name) for c in shown), default=0)
        for check in shown:
            if check.ok:
                line = f"same    {check.name:<{longest}}  {check.got}"
            else:
                line = f"DIFFERS {check.name:<{longest}}  expected {check.expected}; got {check.got}"
            click.echo(paragraph(line, width(), longest + 10))
        count = len(result.differences)
        verdict = (
            f"{count} of {len(result.checks)} checks differ" if count else f"all {len(result.checks)} checks agree"
        )
        factor = f" (x{result.scale})" if result.scale else ""
        click.echo(paragraph(f"{verdict}: {input} and {output}{factor}", width()))
    return 0 if result.ok else 1

"""A benchmark's figures as text, as Markdown, and as a chart."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from vsr.benchmark.engines import EngineFigure
from vsr.benchmark.run import BenchReport
from vsr.layout import paragraph, table

BAR_WIDTH: Final = 480
BAR_HEIGHT: Final = 18
LABEL_WIDTH: Final = 190
MARGIN: Final = 10
INK: Final = (40, 40, 40)
COLOURS: Final = {"ffmpeg": (150, 150, 150), "vsr": (46, 110, 180)}


def tables(report: BenchReport) -> list[tuple[str, list[str], list[list[str]]]]:
    """Title, heads and rows of each table that has rows."""
    settings = report.settings
    width, height = settings["size"]
    found = []
    if report.engines:
        several = len({(e.width, e.height, e.scale, e.lanes, e.batch) for e in report.engines}) > 1
        rows = [
            [
                _engine_name(e, several=several),
                f"{e.ms:.2f}",
                f"{e.fps:.1f}",
                f"{e.cpu_ms:.2f}",
                f"{e.gmac_s:.1f}",
                "–" if e.share_of_peak is None else f"{e.share_of_peak:.0%}",
            ]
            for e in report.engines
        ]
        title = "Engines alone" if several else f"Engine alone, {width}x{height} x{settings['scale']}"
        found.append((title, ["", "ms", "fps", "CPU ms", "GMAC/s", "of the peak"], rows))
    parted = [e for e in report.engines if e.parts is not None]
    if parted:
        found.append((_PARTS_TITLE, list(_PARTS_HEADS), [_parts_row(e) for e in parted]))
    for job in report.jobs:
        rows = [[s.name, f"{s.fps:.1f}", f"{s.cpu_ms:.2f}"] for s in (*job.stages, job.job)]
        title = (
            f"{job.model}: stages alone and together; the limit is {job.limit_fps:.1f} fps, {job.efficiency:.0%} of it "
            f"is reached, and most of the work is to {job.limited_by}"
        )
        found.append((title, ["", "fps", "CPU ms a frame"], rows))
    if report.processes:
        first = report.processes[0].name
        rows = []
        for p in report.processes:
            figures = [
                f"{p.fps:.1f}",
                f"{p.wall_s:.2f}",
                f"{p.cpu_s:.2f}",
                f"{p.rss_mib:.0f}",
                f"{p.beside_baseline:.2f}",
            ]
            rows.append([p.name, *figures])
        title = f"Whole processes, {report.processes[0].frames} frames, {settings['encoder']}, medians of turns"
        found.append((title, ["", "fps", "wall s", "CPU s", "MiB", f"wall beside {first}"], rows))
    return found


_PARTS_TITLE: Final = "A picture alone, by the device's clock; GFLOP and MB of its convolutions, counted from the graph"
_PARTS_HEADS: Final = ("", "upload ms", "compute ms", "download ms", "GFLOP", "MB", "roofline ms", "of the roofline")


def _engine_name(figure: EngineFigure, *, several: bool) -> str:
    name = f"{figure.model} {figure.precision}"
    if not several:
        return name
    batch = f", {figure.batch} at once" if figure.batch > 1 else ""
    return f"{name} x{figure.scale} {figure.width}x{figure.height}, {figure.lanes} in flight{batch}"


def _parts_row(figure: EngineFigure) -> list[str]:
    assert figure.parts is not None
    share, least = figure.share_of_roofline, figure.least_ms
    return [
        _engine_name(figure, several=True),
        *(f"{ms:.3f}" for ms in (figure.parts.upload_ms, figure.parts.compute_ms, figure.parts.download_ms)),
        f"{figure.flop / 1e9:.2f}",
        f"{figure.bytes / 1e6:.1f}",
        "–" if least is None else f"{least:.3f}",
        "–" if share is None else f"{share:.0%}",
    ]


def as_text(report: BenchReport, width: int | None = None) -> str:
    """For a terminal of `width` characters; None: of any width."""
    lines = [paragraph(", ".join(f"{name} {value}" for name, value in report.machine.items()), width)]
    for title, heads, rows in tables(report):
        lines += ["", paragraph(title, width), table(heads, rows, width)]
    return "\n".join([*lines, *(paragraph(f"note: {note}", width) for note in report.notes)])


def as_markdown(report: BenchReport) -> str:
    """The tables and notes for a page."""
    found = [markdown(title, heads, rows) for title, heads, rows in tables(report)]
    return "\n\n".join([*found, *(f"Note: {note}." for note in report.notes)])


def markdown(title: str, heads: list[str], rows: list[list[str]]) -> str:
    """A table for a page."""
    lines = [f"{title}:", "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def draw_chart(report: BenchReport, path: Path) -> None:
    """Write a PNG of frame rates: a bar for each engine, job and process.

    Raises:
        OSError: the file cannot be written.
    """
    from PIL import Image, ImageDraw, ImageFont

    groups = [
        ("engine alone", [(f"{e.model} {e.precision}", e.fps) for e in report.engines]),
        ("job", [(job.model, job.job.fps) for job in report.jobs]),
        ("whole process", [(p.name, p.fps) for p in report.processes]),
    ]
    groups = [(title, bars) for title, bars in groups if bars]
    lines = sum(len(bars) + 1 for _, bars in groups)
    size = (LABEL_WIDTH + BAR_WIDTH + 90, 2 * MARGIN + lines * (BAR_HEIGHT + 4))
    image = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(12)
    y = MARGIN
    for title, bars in groups:
        draw.text((MARGIN, y), f"{title}, frames a second", fill=INK, font=font)
        y += BAR_HEIGHT + 4
        longest = max(fps for _, fps in bars)
        for name, fps in bars:
            draw.text((2 * MARGIN, y), name, fill=INK, font=font)
            length = round(BAR_WIDTH * fps / longest)
            colour = COLOURS["ffmpeg" if name.startswith("ffmpeg") else "vsr"]
            draw.rectangle((LABEL_WIDTH, y, LABEL_WIDTH + length, y + BAR_HEIGHT - 2), fill=colour)
            draw.text((LABEL_WIDTH + length + 6, y), f"{fps:.1f}", fill=INK, font=font)
            y += BAR_HEIGHT + 4
    image.save(path, "PNG", optimize=True)

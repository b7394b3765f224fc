"""`vsr verify` where one side is pictures: a still, or an image sequence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vsr.comparison.differences import NOTHING, Check, Comparison
from vsr.comparison.likeness import LEAST_DB, Likeness
from vsr.errors import MissingInputError, OptionError, UnsupportedInputError
from vsr.frame import Planes
from vsr.pictures.attached import Attached, read_attached
from vsr.pictures.files import CHANNEL_NAMES, PictureKind, is_still, open_picture, read_kind, read_picture, turned
from vsr.pictures.rgb import picture_of_planes, planes_of_picture
from vsr.pictures.sequence import find_sequence, is_sequence
from vsr.pictures.sequence_sink import display_orientation
from vsr.reading.demux import open_input, packets, read_only
from vsr.size import SizeRequest, output_size
from vsr.source import Source
from vsr.trim import Trim

VIDEO_BITS: Final = 10  # that a video of deep pictures has at least
SHOWN: Final = 3  # names in a line
TURNED_SIDEWAYS: Final = 5  # from this orientation on


@dataclass(frozen=True)
class _Side:
    """One side of the comparison.

    Attributes:
        path: as given.
        count: of its pictures.
        kinds: what they are, as displayed, without repeats.
        paths: of its pictures; empty for a video.
        numbers: in their names; empty if there are none.
    """

    path: Path
    count: int
    kinds: tuple[PictureKind, ...]
    paths: tuple[Path, ...] = ()
    numbers: tuple[int, ...] = ()


def has_pictures(*paths: Path) -> bool:
    """Whether one of `paths` stands for picture files."""
    return any(is_sequence(p) or is_still(p) for p in paths)


def compare_pictures(
    input: Path,
    output: Path,
    *,
    size: SizeRequest | None = None,
    decode: bool = False,
    trim: Trim | None = None,
) -> Comparison:
    """Compare pictures or a video with what they were made from, one of them at least being pictures.

    Count, numbers, size ratio, channels and bits are compared, and from pictures to pictures colour profile, EXIF data
    and XMP too, byte by byte where both formats have them in the same form.

    Args:
        input: the original: a still, a sequence or a video.
        output: the result, likewise.
        size: what size was asked for; None takes any whole factor.
        decode: read every picture, and see that each looks like its original.
        trim: must ask for nothing: parts of sequences are not compared.

    Raises:
        InputError: one of them cannot be read.
        UnsupportedInputError: a single picture and something with many are given.
        OptionError: a part is asked for, or a size that the pictures cannot be made of.
    """
    if trim is not None and not trim.is_everything:
        raise OptionError("parts of image sequences are not compared", "leave start, end, duration and frames out")
    if is_still(input) != is_still(output) and not (is_sequence(input) or is_sequence(output)):
        raise UnsupportedInputError(f"{input if is_still(input) else output} is a still image, and the other is none")
    before, after = _side(input), _side(output)
    result = Comparison(str(input), str(output))

    def add(name: str, ok: bool, expected: object, got: object) -> None:
        result.checks.append(Check(name, ok, str(expected), str(got)))

    add("pictures: count", before.count == after.count, before.count, after.count)
    if before.numbers and after.numbers:
        add("pictures: numbers", before.numbers == after.numbers, _range(before.numbers), _range(after.numbers))
    for side in (before, after):
        one = len(side.kinds) == 1
        add(f"{side.path.name}: all of one kind", one, 1, "; ".join(map(str, side.kinds[:SHOWN])))
    old, new = before.kinds[0], after.kinds[0]
    scale, rest = divmod(new.width, old.width)
    whole = not rest and (new.width, new.height) == (old.width * scale, old.height * scale)
    result.scale = scale if whole else None
    wanted, right = f"a multiple of {old.width}x{old.height}", whole and scale > 0
    if size is not None:
        asked = output_size(size, old.width, old.height)
        wanted, right = f"{asked.width}x{asked.height}", (asked.width, asked.height) == (new.width, new.height)
    add("pictures: size", right, wanted, f"{new.width}x{new.height}")
    held = new.channels >= old.channels or (old.channels == 4 and new.channels == 3 and not after.paths)
    add("pictures: channels", held, CHANNEL_NAMES[old.channels], CHANNEL_NAMES[new.channels])
    bits = old.bits if after.paths else min(old.bits, VIDEO_BITS)
    add("pictures: bits", new.bits >= bits, f"{bits} or more", new.bits)
    if before.paths and after.paths:
        _check_attached(before, after, result)
    if decode:
        _check_likeness(before, after, result)
    return result


def _side(path: Path) -> _Side:
    if is_sequence(path):
        sequence = find_sequence(path, gaps=True)
        counted = "%" in path.name
        kinds = tuple(dict.fromkeys(_bare(read_kind(p)) for p in sequence.paths))
        return _Side(path, len(sequence.paths), kinds, sequence.paths, sequence.numbers if counted else ())
    if not path.exists():
        raise MissingInputError(f"{path} does not exist")
    if is_still(path):
        return _Side(path, 1, (_bare(read_kind(path)),), (path,))
    source = Source(path, on_truncated="keep")
    try:
        info = source.info
        width, height = info.width, info.height
        if display_orientation(info.display_matrix) >= TURNED_SIDEWAYS:
            width, height = height, width
        channels = (1 if info.format.family == "gray" else 3) + (info.format.alpha and 1)
        index = source.stream_index
    finally:
        source.close()
    with open_input(path) as container:
        read_only(container, {index})
        count = sum(1 for p in packets(container, container.streams[index], path=path) if p.size)
    return _Side(path, count, (PictureKind(width, height, channels, info.format.bits),))


def _bare(kind: PictureKind) -> PictureKind:
    """Without what may differ from file to file."""
    return PictureKind(kind.width, kind.height, kind.channels, kind.bits)


def _range(numbers: tuple[int, ...]) -> str:
    gaps = numbers[-1] - numbers[0] + 1 - len(numbers)
    return f"{numbers[0]} to {numbers[-1]}" + (f" without {gaps}" if gaps else "")


def _check_attached(before: _Side, after: _Side, result: Comparison) -> None:
    """Whether what comes along with each picture is the same."""

    def read(path: Path) -> Attached:
        with open_picture(path) as image:
            return read_attached(image)

    changed: dict[str, list[str]] = {"colour profile": [], "EXIF data": [], "XMP": []}
    there = dict.fromkeys(changed, 0)
    for old_path, new_path in zip(before.paths, after.paths, strict=False):
        old, new = read(old_path), read(new_path)
        in_lists = any(p.suffix.lower() in (".tif", ".tiff") for p in (old_path, new_path))
        exif = bool(old.exif) == bool(new.exif) if in_lists else old.exif == new.exif
        for name, had, same in (
            ("colour profile", old.icc, old.icc == new.icc),
            ("EXIF data", old.exif, exif),
            ("XMP", old.xmp, old.xmp == new.xmp),
        ):
            there[name] += bool(had)
            if not same:
                changed[name].append(new_path.name)
    for name, names in changed.items():
        got = f"changed in {len(names)}: {', '.join(names[:SHOWN])}" if names else "the same"
        expected = f"in {there[name]} pictures" if there[name] else NOTHING
        result.checks.append(Check(f"pictures: {name}", not names, expected, got))


def _check_likeness(before: _Side, after: _Side, result: Comparison) -> None:
    likeness = Likeness()
    for old, new in zip(_pictures(before), _pictures(after), strict=False):
        likeness.add(old, new)
    got = f"worst {likeness.worst_db:.1f} dB, {likeness.misplaced} misplaced"
    result.checks.append(Check("pictures: likeness", likeness.ok, f"{LEAST_DB:g} dB or more, 0 misplaced", got))


def _pictures(side: _Side) -> Iterator[Planes]:
    """Every picture as displayed, in R'G'B' or grey."""
    for path in side.paths:
        yield planes_of_picture(read_picture(path).upright().samples)
    if side.paths:
        return
    source = Source(side.path, on_truncated="keep")
    try:
        orientation = display_orientation(source.info.display_matrix)
        for frame in source.frames():
            samples = picture_of_planes(
                frame.planes, source.info.shown_color, 8 if frame.planes.format.bits == 8 else 16
            )
            yield planes_of_picture(turned(samples, orientation))
    finally:
        source.close()

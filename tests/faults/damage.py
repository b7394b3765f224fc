"""Ways to damage a media file."""

from __future__ import annotations

import random
from collections.abc import Collection
from pathlib import Path

import av

BLOCK = 512


def cut(source: Path, result: Path, share: float = 0.5) -> Path:
    """The first part of the file, as an aborted copy leaves it (at an odd byte)."""
    content = source.read_bytes()
    result.write_bytes(content[: int(len(content) * share) | 1])
    return result


def spoil_packets(source: Path, result: Path, wrong: Collection[int]) -> Path:
    """The same file with the payload of these video packets replaced by what no decoder takes."""
    with av.open(str(source)) as before, av.open(str(result), "w", options={"fflags": "bitexact"}) as after:
        streams = {s.index: after.add_stream_from_template(s) for s in before.streams}
        number = 0
        for packet in before.demux():
            if not packet.size:
                continue
            is_video = packet.stream.type == "video"
            copy = av.Packet(b"\xff" * packet.size) if is_video and number in wrong else av.Packet(bytes(packet))
            number += is_video
            copy.time_base, copy.pts, copy.dts = packet.time_base, packet.pts, packet.dts
            copy.duration, copy.is_keyframe = packet.duration, packet.is_keyframe
            copy.stream = streams[packet.stream.index]
            after.mux(copy)
    return result


def mutate(content: bytes, seed: int) -> bytes:
    """One of eight kinds of damage, chosen and placed by the seed."""
    chance = random.Random(seed)
    data = bytearray(content)
    kind = chance.randrange(8)
    if kind == 0:  # bytes flipped anywhere
        for _ in range(chance.choice((1, 4, 20, 100))):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    elif kind == 1:  # bytes replaced in the header
        for _ in range(chance.choice((1, 5, 25))):
            data[chance.randrange(min(len(data), 1500))] = chance.randrange(256)
    elif kind == 2:  # cut
        del data[chance.randrange(1, len(data)) :]
    elif kind == 3:  # the beginning lost
        del data[: chance.randrange(1, len(data))]
    elif kind == 4:  # blocks shuffled
        blocks = [data[i : i + BLOCK] for i in range(0, len(data), BLOCK)]
        some = chance.sample(range(len(blocks)), min(len(blocks), chance.choice((2, 4, 1000))))
        moved = [blocks[i] for i in chance.sample(some, len(some))]
        for i, block in zip(some, moved, strict=True):
            blocks[i] = block
        data = bytearray(b"".join(blocks))
    elif kind == 5:  # a hole of zeros
        start = chance.randrange(len(data))
        hole = data[start : start + chance.choice((16, 500, 4000))]
        data[start : start + len(hole)] = bytes(len(hole))
    elif kind == 6:  # a piece repeated
        start = chance.randrange(len(data))
        data[start:start] = data[start : start + chance.choice((7, 188, 3000))]
    else:  # bytes replaced in the trailer, where indexes lie
        for _ in range(chance.choice((1, 5, 25))):
            data[-chance.randrange(1, min(len(data), 1500))] = chance.randrange(256)
    return bytes(data)

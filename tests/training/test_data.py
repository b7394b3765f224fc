import tracemalloc

import av
import h5py
import numpy as np
import pytest
from PIL import Image

from vsr.errors import InputError, OptionError, TrainingError
from vsr.training import dead_leaves, sources
from vsr.training import prepare as preparing
from vsr.training.data import PatchData
from vsr.training.prepare import degrade, prepare
from vsr.training.sources import clip_pictures, find_sources, sources_sha256


def quiet(_text):
    pass


def test_low_pictures_are_the_degraded_high_ones(database):
    for scale in (2, 3, 4):
        patches = PatchData(database, scale, 12)
        assert patches.validation
        for low, high in [*patches.validation, *map(patches.pair, patches.training)]:
            assert np.array_equal(low, degrade(high, scale))
            assert high.shape[0] % sources.MULTIPLE == high.shape[1] % sources.MULTIPLE == 0


def test_patches_lie_over_each_other(database):
    patches = PatchData(database, 3, 16)
    low, high = patches.batch(seed=5, step=7, size=8)
    assert low.shape == (8, 1, 16, 16)
    assert high.shape == (8, 1, 48, 48)
    assert low.dtype == high.dtype == np.float32
    assert 0 <= low.min() <= high.max() <= 1
    for a, b in zip(low[:, 0], high[:, 0], strict=True):
        # away from the patch's border, which has other neighbours, shrinking gives the low patch again
        again = degrade(np.rint(b * 255).astype(np.uint8), 3)
        assert np.abs(again[3:-3, 3:-3] - a[3:-3, 3:-3] * 255).max() <= 1


def test_a_step_always_has_the_same_patches(database):
    one, other = PatchData(database, 2, 12), PatchData(database, 2, 12)
    assert np.array_equal(one.batch(1, 9, 4)[1], other.batch(1, 9, 4)[1])
    assert not np.array_equal(one.batch(1, 9, 4)[1], one.batch(1, 10, 4)[1])
    assert not np.array_equal(one.batch(1, 9, 4)[1], one.batch(2, 9, 4)[1])


def test_raised_contrast_keeps_a_pair_together(database):
    patches = PatchData(database, 2, 16)
    plain, raised = patches.batch(3, 4, 12), patches.batch(3, 4, 12, contrast=5.0)
    factors = []
    for before, after in zip(zip(*plain, strict=True), zip(*raised, strict=True), strict=True):
        factor, offset = np.polyfit(before[1].ravel(), after[1].ravel(), 1)
        assert 1.0 - 1e-4 <= factor <= 5.0 + 1e-4
        for one, other in zip(before, after, strict=True):  # the same line for low and high resolution
            assert np.allclose(other, factor * one + offset, atol=1e-4)
        assert after[1].min() >= -1e-5
        assert after[1].max() <= 1 + 1e-5
        factors.append(factor)
    assert max(factors) > 1.2, "some patch had room"
    again = patches.batch(3, 4, 12, contrast=5.0)
    assert all(np.array_equal(one, other) for one, other in zip(raised, again, strict=True))


def test_validation_pictures_are_not_trained_on(photographs, tmp_path, monkeypatch):
    monkeypatch.setattr(preparing, "HOLD_OUT_EVERY", 3)
    out = tmp_path / "d.h5"
    prepare(photographs, out=out, say=quiet)
    patches = PatchData(out, 2, 12)
    assert len(patches.validation) == 1
    assert len(patches.training) == 2 * len(sources.SIZES)
    held = np.asarray(Image.open(sorted(photographs.iterdir())[1]).resize((180, 150), Image.Resampling.LANCZOS))
    assert abs(patches.validation[0][1].mean() - held.mean() * 219 / 255 - 16) < 4


def test_preparing_twice_keeps_the_database_and_new_sources_replace_it(photographs, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for path in photographs.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    out = tmp_path / "d.h5"
    first = prepare(folder, out=out, say=quiet)
    before = out.stat().st_mtime_ns
    assert prepare(folder, out=out, say=quiet) == first
    assert out.stat().st_mtime_ns == before
    (folder / "p0.png").unlink()
    assert prepare(folder, out=out, say=quiet) != first
    assert out.stat().st_mtime_ns != before


def test_only_the_permissive_stills_and_the_clips_are_taken(tmp_path):
    for name in (
        "train/stills/permissive/a.png",
        "train/stills/academic/b.png",
        "train/video/c.mp4",
        "test/d.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert [p.name for p in find_sources(tmp_path)] == ["a.png", "c.mp4"]
    assert [p.name for p in find_sources(tmp_path / "train")] == ["a.png", "c.mp4"]


def test_the_hash_follows_names_and_contents(tmp_path):
    (tmp_path / "a.png").write_bytes(b"1")
    first = sources_sha256(find_sources(tmp_path), "")
    assert sources_sha256(find_sources(tmp_path), "") == first
    (tmp_path / "a.png").write_bytes(b"2")
    second = sources_sha256(find_sources(tmp_path), "")
    (tmp_path / "a.png").rename(tmp_path / "b.png")
    assert len({first, second, sources_sha256(find_sources(tmp_path), "")}) == 3


def grey_picture(width, height, value):
    """yuv420p as one array, [3 · height / 2, width]."""
    return np.concatenate([np.full((height, width), value, np.uint8), np.full((height // 2, width), 128, np.uint8)])


def write_clip(path, pictures, codec, **options):
    """A clip of yuv420p pictures, each [3 · height / 2, width], at 25 a second."""
    frames = [av.VideoFrame.from_ndarray(picture, "yuv420p") for picture in pictures]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = frames[0].width, frames[0].height, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_frames_of_a_clip_become_pictures(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", (grey_picture(256, 192, 60 + 5 * value) for value in range(24)), "mpeg4")
    pictures = list(clip_pictures(path, "soft"))
    assert len(pictures) == sources.FRAMES_PER_CLIP
    assert {p.shape for p in pictures} == {(96, 120)}  # half, cropped to a multiple of 12
    # as coded: limited range stays limited range
    assert [round(float(p.mean())) for p in pictures] == pytest.approx([65 + 15 * k for k in range(8)], abs=2)


def test_bad_sources_give_one_clear_line(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        prepare(tmp_path / "nothing", out=tmp_path / "d.h5")
    with pytest.raises(InputError, match="holds no pictures or clips"):
        prepare(tmp_path, out=tmp_path / "d.h5")
    (tmp_path / "a.png").write_bytes(b"not a picture")
    with pytest.raises(InputError, match=r"a\.png"):
        prepare(tmp_path, out=tmp_path / "d.h5", say=quiet)
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"too small.*at least 96 pixels"):
        prepare(tmp_path, out=tmp_path / "d.h5", say=quiet)
    (tmp_path / "a.png").unlink()
    (tmp_path / "a.mp4").write_bytes(b"not a clip")
    with pytest.raises(InputError, match=r"a\.mp4"):
        prepare(tmp_path, out=tmp_path / "d.h5", say=quiet)
    assert not (tmp_path / "d.h5").exists()


def test_an_unwritable_place_leaves_the_old_database(photographs, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="cannot write"):
        prepare(photographs, out=tmp_path / "file" / "d.h5", say=quiet)


def test_bad_databases_and_patches_are_refused(database, tmp_path):
    (tmp_path / "d.h5").write_text("text")
    with pytest.raises(InputError, match="not a prepared patch database"):
        PatchData(tmp_path / "d.h5", 2, 12)
    with pytest.raises(OptionError, match="scale 5"):
        PatchData(database, 5, 12)
    with pytest.raises(OptionError, match="patch 2"):
        PatchData(database, 2, 2)
    with pytest.raises(InputError, match="smaller than a patch"):
        PatchData(database, 2, 500)


def test_a_database_on_disk_gives_the_patches_of_one_in_memory(database):
    for scale in (2, 3, 4):
        memory, disk = PatchData(database, scale, 12), PatchData(database, scale, 12, memory_limit=0)
        for step in range(4):
            for one, other in zip(memory.batch(1, step, 3), disk.batch(1, step, 3), strict=True):
                assert np.array_equal(one, other)
        for one, other in zip(memory.validation, disk.validation, strict=True):
            assert np.array_equal(one[1], other[1])


def test_what_is_read_of_a_database_on_disk_stays_small(photographs, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "SIZES", (1.0, 0.9, 0.8, 0.7, 0.6))
    prepare(photographs, out=tmp_path / "d.h5", say=quiet)
    tracemalloc.start()
    patches = PatchData(tmp_path / "d.h5", 2, 8, memory_limit=0)
    patches.batch(1, 0, 4)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < (tmp_path / "d.h5").stat().st_size / 2


def test_a_long_clip_is_sought_through(tmp_path, monkeypatch):
    pictures = (grey_picture(128, 96, 20 + 3 * value) for value in range(60))
    often = {"g": "5", "crf": "5", "x264-params": "scenecut=0"}
    path = write_clip(tmp_path / "clip.mp4", pictures, "libx264", **often)

    def numbers():
        return [[round((float(p.mean()) - 20) / 3) for p in run] for run in sources.clip_runs(path, "soft", 3, 4)]

    whole = numbers()
    assert whole == [[6, 7, 8], [21, 22, 23], [36, 37, 38], [51, 52, 53]]
    monkeypatch.setattr(sources, "LONG_CLIP", 50)
    sought = numbers()
    assert sought == [[5, 6, 7], [20, 21, 22], [35, 36, 37], [50, 51, 52]]  # from the key frame before


def test_clips_alone_hold_some_pictures_out(tmp_path, monkeypatch):
    monkeypatch.setattr(preparing, "HOLD_OUT_EVERY", 4)
    grey = np.random.default_rng(0).integers(0, 255, (9, 144, 128), np.uint8)
    for name in ("a", "b"):
        write_clip(tmp_path / f"{name}.mkv", grey, "ffv1")
    prepare(tmp_path, out=tmp_path / "d.h5", frames_per_clip=4, say=quiet)
    patches = PatchData(tmp_path / "d.h5", 2, 8)
    assert (len(patches.training), len(patches.validation)) == (6, 2)


def test_several_folders_are_one_set_of_sources(photographs, tmp_path):
    (tmp_path / "more").mkdir()
    Image.new("RGB", (100, 100)).save(tmp_path / "more" / "a.png")
    found = find_sources(photographs, tmp_path / "more", photographs)
    assert [p.name for p in found] == ["p0.png", "p1.png", "p2.png", "a.png"]
    with pytest.raises(OptionError, match="degradation 'jpeg'"):
        prepare(photographs, out=tmp_path / "d.h5", degradation="jpeg")


def test_how_sources_are_shrunk_is_part_of_what_the_data_are(photographs, tmp_path):
    """`sharp` data keep more of the highest frequencies, and their hash is that of before there was a choice."""
    made = {how: prepare(photographs, out=tmp_path / f"{how}.h5", shrink=how, say=quiet) for how in sources.SHRINKS}
    assert made["soft"] != made["sharp"]

    def detail(how):
        path = sorted(p for p in photographs.iterdir() if p.suffix != ".txt")[0]
        picture = next(iter(sources.still_pictures(path, how))).astype(float)
        return float(np.abs(np.diff(picture, n=2)).mean())

    assert detail("sharp") > 1.05 * detail("soft")
    with pytest.raises(OptionError, match="got shrink 'blunt'; there are soft, sharp"):
        prepare(photographs, out=tmp_path / "d.h5", shrink="blunt")


def test_dead_leaves_are_a_share_of_the_pixels_and_never_measured_on(photographs, tmp_path, monkeypatch):
    for module in (dead_leaves, preparing):
        monkeypatch.setattr(module, "SIDE", 120)
    digest = prepare(photographs, out=tmp_path / "d.h5", dead_leaves=0.5, say=quiet)
    with h5py.File(tmp_path / "d.h5") as file:
        shapes, held = file["shapes"][:], file["validation"][:]
        drawn = (shapes == 120).all(axis=1)
        area = shapes.prod(axis=1)
        assert area[drawn].sum() == pytest.approx(area[~drawn].sum(), abs=120**2 / 2)
        assert drawn.any()
        assert not held[drawn].any()
        first = file["hr"][area[~drawn].sum() :][: 120**2].reshape(120, 120)
    np.testing.assert_array_equal(first, next(dead_leaves.pictures(1)))
    assert prepare(photographs, out=tmp_path / "d.h5", dead_leaves=0.5, say=quiet) == digest
    assert prepare(photographs, out=tmp_path / "other.h5", say=quiet) != digest


def test_dead_leaves_have_edges_of_every_contrast():
    luma = dead_leaves.picture(np.random.default_rng(3))
    assert (luma.shape, luma.dtype) == ((dead_leaves.SIDE,) * 2, np.uint8)
    steps = np.abs(np.diff(luma.astype(np.int16), axis=1))
    assert np.histogram(steps, bins=(16, 32, 64, 128, 256))[0].min() > 100
    assert (steps == 0).mean() > 0.3  # and much of it is flat


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_of_dead_leaves_that_cannot_be_is_refused(share, tmp_path):
    with pytest.raises(OptionError, match="at least 0 and below 1"):
        prepare(tmp_path, out=tmp_path / "d.h5", dead_leaves=share)


def test_dead_leaves_are_for_clean_data(tmp_path):
    with pytest.raises(OptionError, match="for clean data alone"):
        prepare(tmp_path, out=tmp_path / "d.h5", dead_leaves=0.1, degradation="codec")

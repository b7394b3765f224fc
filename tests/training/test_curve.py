import json

import numpy as np
from PIL import Image

from vsr.training.checkpoint import read_log
from vsr.training.curve import BOTTOM, LEFT, LOSS_COLOUR, PSNR_COLOUR, RIGHT, TOP, draw_curve


def entries(count):
    return [{"step": 10 * k, "loss": 0.1 / k, "validation_psnr": 30 - 5 / k} for k in range(1, count + 1)]


def rows_of(image, colour, column):
    pixels = np.asarray(image)[TOP : BOTTOM + 1, column]
    return np.flatnonzero((pixels == colour).all(axis=-1))


def test_loss_falls_and_psnr_rises_on_the_picture(tmp_path):
    assert draw_curve(entries(20), "fast x2", tmp_path / "c.png")
    image = Image.open(tmp_path / "c.png")
    early, late = LEFT + (RIGHT - LEFT) // 10, RIGHT - 4
    assert rows_of(image, LOSS_COLOUR, early).mean() < rows_of(image, LOSS_COLOUR, late).mean()  # rows count downwards
    assert rows_of(image, PSNR_COLOUR, early).mean() > rows_of(image, PSNR_COLOUR, late).mean()
    assert [p.name for p in tmp_path.iterdir()] == ["c.png"]


def test_one_entry_is_a_picture_and_none_is_not(tmp_path):
    assert draw_curve(entries(1), "fast x2", tmp_path / "c.png")
    assert not draw_curve([], "fast x2", tmp_path / "d.png")
    infinite = [{"step": 1, "loss": 0.0, "validation_psnr": float("inf")}]
    assert not draw_curve(infinite, "fast x2", tmp_path / "d.png")
    assert not draw_curve(entries(2), "fast x2", tmp_path / "nothing" / "d.png")
    assert [p.name for p in tmp_path.iterdir()] == ["c.png"]


def test_a_log_is_read_up_to_a_step_without_a_line_cut_short(tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_text("".join(f"{json.dumps(e)}\n" for e in entries(5)) + '{"step": 6')
    assert read_log(log) == entries(5)
    assert read_log(log, 30) == entries(3)
    assert read_log(tmp_path / "none.jsonl") == []

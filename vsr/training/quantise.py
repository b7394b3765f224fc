"""int8 forms of shipped models: post-training quantisation by NNCF, as Q/DQ nodes that every runtime reads.

NNCF's default range estimator clips and costs whole decibels on these networks; the plain minimum and maximum do not. A
model whose loss on the validation pictures is more than `LARGEST_LOSS_DB` is not written: it needs training instead.
Needs the packages nncf and onnxruntime (`pip install 'vsr[quantise]'`).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx

from vsr.errors import TrainingError, VsrError
from vsr.model import INT8_ENDING, load_model
from vsr.pairs import PROTOCOL
from vsr.store import atomic_write
from vsr.training.data import PatchData
from vsr.training.evaluate import Enlarge, mean, picture_psnr, standard_psnr
from vsr.training.export import run_model

LARGEST_LOSS_DB: Final = 0.10
CALIBRATION_PATCHES: Final = 160
CALIBRATION_SIDE: Final = 96  # low-resolution pixels
SEED: Final = 1


def quantise(name: str, scale: int, data: PatchData, folder: Path, test_folder: Path | None) -> dict[str, float]:
    """Quantise a shipped model and write it beside the others.

    Args:
        name: of the network.
        scale: of the model.
        data: the training pictures at that scale, whose patches calibrate; the held-out ones judge the result.
        folder: where the file goes.
        test_folder: with Set5 and Set14, to be reported; never looked at for the decision.

    Returns:
        PSNR of the int8 model on the test sets found, in dB.

    Raises:
        TrainingError: NNCF is missing, or too much is lost.
    """
    plain = load_model(name, scale)
    original = onnx.load_model_from_string(plain.onnx_bytes)
    patches, _ = data.batch(SEED, 0, CALIBRATION_PATCHES)
    model = _by_nncf(original, [{"y": patch[None].astype(np.float32)} for patch in patches])
    before, after = (
        mean(picture_psnr(high, scale, _enlarge(m)) for _, high in data.validation) for m in (original, model)
    )
    if before - after > LARGEST_LOSS_DB:
        raise TrainingError(
            f"{name} x{scale} loses {before - after:.3f} dB in int8, and {LARGEST_LOSS_DB} is allowed",
            "it needs quantisation-aware training",
        )
    figures = {} if test_folder is None else standard_psnr(test_folder, scale, _enlarge(model))
    properties = {p.key: p.value for p in original.metadata_props}
    properties["vsr.precision"] = "int8"
    properties["vsr.fp32_sha256"] = plain.sha256
    properties["vsr.psnr"] = json.dumps({**{k: round(v, 3) for k, v in figures.items()}, "protocol": PROTOCOL})
    onnx.helper.set_model_props(model, properties)
    onnx.checker.check_model(model, full_check=True)
    with atomic_write(folder / f"{name}_x{scale}{INT8_ENDING}", overwrite=True) as path:
        path.write_bytes(model.SerializeToString())
    return {"validation loss": round(before - after, 3), **figures}


def _by_nncf(model: onnx.ModelProto, patches: list[dict[str, Any]]) -> onnx.ModelProto:
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import nncf
        from nncf.quantization.range_estimator import RangeEstimatorParametersSet
    except ImportError as exc:
        raise TrainingError(f"quantising needs NNCF: {exc}", "pip install 'vsr[quantise]'") from exc
    exact = RangeEstimatorParametersSet.MINMAX
    quantised: onnx.ModelProto = nncf.quantize(
        model,
        nncf.Dataset(patches),
        subset_size=len(patches),
        preset=nncf.QuantizationPreset.MIXED,
        # The skip adds what is exact already; rounding either side of it would cost 0.1 dB.
        ignored_scope=nncf.IgnoredScope(names=["skip"], validate=False),
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            activations_range_estimator_params=exact, weights_range_estimator_params=exact
        ),
    )
    _fit_input_to_codes(quantised)
    return quantised


def _fit_input_to_codes(model: onnx.ModelProto) -> None:
    """Make the first rounding step that of 8-bit luma, which comes in so: then it changes nothing."""
    source = model.graph.input[0].name
    quantiser = next(n for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] == source)
    for weight in model.graph.initializer:
        if weight.name == quantiser.input[1]:
            weight.CopyFrom(onnx.numpy_helper.from_array(np.float32(1 / 255).reshape(weight.dims), weight.name))
        elif weight.name == quantiser.input[2]:
            weight.CopyFrom(onnx.numpy_helper.from_array(np.zeros(tuple(weight.dims), np.uint8), weight.name))


def _enlarge(model: onnx.ModelProto) -> Enlarge:
    return lambda low: run_model(model, low[None, None])[0, 0]


def main() -> int:
    """`scripts/quantise`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", required=True)
    parser.add_argument("--scale", type=int, required=True)
    parser.add_argument("--database", type=Path, required=True, help="as scripts/train_zoo makes it")
    parser.add_argument("--test-data", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "weights")
    options = parser.parse_args()
    try:
        data = PatchData(options.database, options.scale, CALIBRATION_SIDE)
        figures = quantise(options.network, options.scale, data, options.out, options.test_data)
    except VsrError as error:
        print(f"quantise: error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{options.network} x{options.scale} int8: {figures}")
    return 0

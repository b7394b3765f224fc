"""A model applied more than once: enlargements that are products of those it was trained for.

The graphs are joined into one, so that luma stays in float between them, and everything that handles a model (frame
graph, strips, backends) handles the joined one alike.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import combinations_with_replacement
from math import prod
from pathlib import Path
from typing import Final

from vsr.errors import ModelError, OptionError
from vsr.model import BICUBIC, PREFERENCE, SCALES, Model, load_model, shipped_for_every_scale, shipped_models
from vsr.size import LARGEST_SCALE

MOST_PASSES: Final = 4  # 2·2·2·2


def factors(scale: int, single: tuple[int, ...]) -> tuple[int, ...] | None:
    """The fewest of the `single` enlargements whose product is `scale`, smallest first, for that is the least work.

    None if there are none.
    """
    for passes in range(1, MOST_PASSES + 1):
        for found in combinations_with_replacement(sorted(single), passes):
            if prod(found) == scale:
                return found
    return None


def scales_of(name_or_path: str | Path | None) -> tuple[int, ...]:
    """Every enlargement up to 16 times that a model does, in one pass or more.

    Args:
        name_or_path: as for `load_model`.

    Raises:
        ModelError: there is no such model.
    """
    single = _single_scales(name_or_path)
    return tuple(s for s in range(2, LARGEST_SCALE + 1) if factors(s, single)) or single


def load_chain(name_or_path: str | Path | None, scale: int, precision: str = "auto") -> Model:
    """The model that enlarges `scale` times, in as many passes as it takes. Arguments and errors are `load_model`'s.

    Raises:
        OptionError: no shipped model comes to `scale`.
        ModelError: as `load_model`.
    """
    if name_or_path == BICUBIC:
        return Model(BICUBIC, scale)
    name = _default_name() if name_or_path is None and scale not in SCALES else name_or_path
    passes = factors(scale, _single_scales(name))
    if passes is None and (name is None or not str(name).endswith(".onnx")):
        allowed = ", ".join(map(str, scales_of(name)))
        raise OptionError(f"scale {scale}; allowed are {allowed}", "other enlargements are made with --size")
    if passes is None or len(passes) == 1:
        return load_model(name, scale, precision)
    return join([load_model(name, s, precision) for s in passes])


def join(models: list[Model]) -> Model:
    """One model that applies `models` one after the other.

    Raises:
        ModelError: their graphs cannot be joined.
    """
    import onnx

    joined = onnx.load_model_from_string(models[0].onnx_bytes)
    joined = onnx.compose.add_prefix(joined, "pass0/")
    for number, model in enumerate(models[1:], 1):
        following = onnx.compose.add_prefix(onnx.load_model_from_string(model.onnx_bytes), f"pass{number}/")
        weights = {w.name for w in following.graph.initializer}
        entry = next(i.name for i in following.graph.input if i.name not in weights)
        del joined.metadata_props[:], following.metadata_props[:]
        try:
            joined = onnx.compose.merge_models(joined, following, [(joined.graph.output[0].name, entry)])
        except ValueError as exc:
            raise ModelError(f"model {model.name} cannot be applied {len(models)} times: {exc}") from exc
    return replace(
        models[0],
        metadata={k: v for k, v in models[0].metadata.items() if k != "vsr.psnr"},  # which is of one pass
        parts=tuple(models),
        name=f"{models[0].name} {' '.join(f'x{m.scale}' for m in models)}",
        scale=prod(m.scale for m in models),
        onnx_bytes=joined.SerializeToString(),
    )


def quantised_form(model: Model) -> Model | None:
    """The int8 form of a shipped model, or of one joined of shipped ones.

    None where a part has none, or one that was made from other weights.
    """
    if model.parts:
        parts = [form for form in map(quantised_form, model.parts) if form is not None]
        return join(parts) if len(parts) == len(model.parts) else None
    if (model.name, model.scale) not in shipped_models(quantised=True):
        return None
    quantised = load_model(model.name, model.scale, "int8")
    return quantised if quantised.metadata.get("vsr.fp32_sha256") == model.sha256 else None


def plain_form(model: Model) -> Model | None:
    """The fp32 form that a shipped int8 model, or one joined of such, was made from.

    None where it is not known, or the model is none.
    """
    if model.parts:
        parts = [form for form in map(plain_form, model.parts) if form is not None]
        return join(parts) if len(parts) == len(model.parts) else None
    if (model.name, model.scale) not in shipped_models(quantised=True):
        return None
    plain = load_model(model.name, model.scale)
    return plain if model.metadata.get("vsr.fp32_sha256") == plain.sha256 else None


def _single_scales(name_or_path: str | Path | None) -> tuple[int, ...]:
    if name_or_path == BICUBIC:
        return tuple(range(2, LARGEST_SCALE + 1))
    name = str(name_or_path) if name_or_path is not None else _default_name()
    shipped = tuple(s for n, s in shipped_models() if n == name)
    if shipped or not Path(name).is_file():
        return shipped or SCALES  # of a name that there is not: load_model says so
    return (_foreign_scale(name, Path(name).stat().st_mtime_ns),)


@cache
def _foreign_scale(path: str, _changed_ns: int) -> int:
    return load_model(path, None).scale


def _default_name() -> str:
    """The default model for what takes more than one pass: the first that is shipped for every scale."""
    return next(filter(shipped_for_every_scale, PREFERENCE), BICUBIC)

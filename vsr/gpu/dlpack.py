"""DLPack by hand: where the samples of a capsule lie, and capsules of memory that no array library knows.

After dlpack.h (DLManagedTensor, version 0.8), by ctypes: what has pictures in a GPU's memory need not have torch.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Final

NAME: Final = b"dltensor"  # of a capsule that nobody has consumed
UNSIGNED: Final = 1  # kDLUInt


@dataclass(frozen=True)
class Rows:
    """Rows of bytes in some memory.

    Attributes:
        address: of the first byte.
        pitch: bytes from the beginning of a row to that of the next.
        width: bytes of a row.
        height: rows.
    """

    address: int
    pitch: int
    width: int
    height: int


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_Destructor = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _Managed(ctypes.Structure):
    _fields_ = (("tensor", _Tensor), ("manager", ctypes.c_void_p), ("deleter", _Deleter))


def _function(name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    """A function of Python's C interface, with types of its own."""
    prototype: Any = ctypes.PYFUNCTYPE(result, *arguments)
    function: Callable[..., Any] = prototype((name, ctypes.pythonapi))
    return function


_new_capsule = _function("PyCapsule_New", ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, _Destructor)
_pointer = _function("PyCapsule_GetPointer", ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)
# Of a capsule that is being destroyed, to which no reference may be made any more
_raw_is_valid = _function("PyCapsule_IsValid", ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)
_raw_pointer = _function("PyCapsule_GetPointer", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)

_alive: dict[int, tuple[Any, ...]] = {}  # by address of the tensor: all that must live as long as its consumer


def _delete(address: int) -> None:
    _alive.pop(address, None)


def _destroy(capsule: int) -> None:
    if _raw_is_valid(capsule, NAME):  # nobody has taken what is in it
        _alive.pop(_raw_pointer(capsule, NAME), None)


_DELETE: Final = _Deleter(_delete)
_DESTROY: Final = _Destructor(_destroy)


def _compact(shape: Sequence[int]) -> list[int]:
    """The strides of samples that lie beside each other, in samples."""
    return [prod(shape[i + 1 :]) for i in range(len(shape))]


def rows_of(capsule: Any) -> Rows:
    """Where a tensor [h, w] or [h, w, 2] lies, whose rows may be padded; the capsule is not consumed.

    Raises:
        ValueError: it is no capsule that can be consumed, or its rows are not samples beside each other.
    """
    tensor = ctypes.cast(_pointer(capsule, NAME), ctypes.POINTER(_Managed)).contents.tensor
    shape = tensor.shape[: tensor.ndim]
    compact = _compact(shape)
    strides = tensor.strides[: tensor.ndim] if tensor.strides else compact
    if tensor.ndim < 2 or strides[1:] != compact[1:]:
        raise ValueError(f"a tensor of shape {shape} and strides {strides}")
    size = tensor.bits * tensor.lanes // 8
    return Rows(tensor.data + tensor.byte_offset, strides[0] * size, compact[0] * size, shape[0])


def capsule_of(rows: Rows, shape: tuple[int, ...], device: tuple[int, int], bits: int, keep: Any) -> Any:
    """A capsule of unsigned samples.

    Args:
        rows: where they lie.
        shape: [h, w] or [h, w, 2].
        device: DLPack's type and number.
        bits: of a sample, 8 or 16.
        keep: is referred to until the consumer lets go of the samples, in whatever thread that happens.
    """
    kind = ctypes.c_int64 * len(shape)
    strides = _compact(shape)
    strides[0] = rows.pitch // (bits // 8)
    lengths, steps = kind(*shape), kind(*strides)
    tensor = _Tensor(rows.address, *device, len(shape), UNSIGNED, bits, 1, lengths, steps, 0)
    managed = _Managed(tensor, None, _DELETE)
    address = ctypes.addressof(managed)
    _alive[address] = managed, lengths, steps, keep
    return _new_capsule(address, NAME, _DESTROY)

"""Computing in float32 what became float64, and leaving narrow what was made wider."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

_WIDE: dict[Any, Any] = {  # as torch calls float64; NumPy knows what else it is called
    torch.float64: torch.float32,
    torch.DoubleTensor: torch.FloatTensor,
    "torch.DoubleTensor": "torch.FloatTensor",
}


def narrow(value: Any) -> Any:
    """An operand that gives float32 with another one: integers as float32, and the type float64 as float32."""
    if isinstance(value, np.ndarray):
        return value.astype(np.float32) if value.dtype.kind in "iub" else value
    if isinstance(value, np.float64):
        return float(value)
    if isinstance(value, (str, type, np.dtype, torch.dtype)):
        return _WIDE[value] if value in _WIDE else np.float32 if _is_float64(value) else value
    return value


def _is_float64(kind: Any) -> bool:
    try:
        made = np.dtype(kind)
    except TypeError:  # the name of an axis, say
        return False
    return (made.kind, made.itemsize) == ("f", 8)


def narrowly(function: Callable[..., Any], owner: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """``function(*args)`` in float32, where it was to make float64."""
    if isinstance(owner, torch.Tensor) and function.__name__ == "double":
        return owner.float()
    return function(*narrow_operands(args), **{name: narrow(value) for name, value in kwargs.items()})


def narrow_operands(values: Sequence[Any]) -> list[Any]:
    """Each of ``values`` as ``narrow`` gives it; float64 arrays as well, where they are smaller than a narrow one."""
    narrowed = [narrow(value) for value in values]
    arrays = [value for value in narrowed if isinstance(value, np.ndarray)]
    most = max((value.size for value in arrays if value.dtype != np.float64), default=0)
    return [
        value.astype(np.float32)
        if isinstance(value, np.ndarray) and value.dtype == np.float64 and value.size < most
        else value
        for value in narrowed
    ]


def unwidened(owner: Any, args: tuple[Any, ...]) -> Any:
    """A copy of what was to be made wider: of the array that a method belongs to, or of the first argument."""
    array = owner if isinstance(owner, (torch.Tensor, np.ndarray)) else args[0]
    return array.clone() if isinstance(array, torch.Tensor) else np.array(array)

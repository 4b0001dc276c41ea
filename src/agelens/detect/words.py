"""The pixels of a Pillow picture as an array, where that is possible without a copy.

Pillow keeps RGB as four bytes a pixel and shows them through the Arrow C data interface (`__arrow_c_array__`), which
NumPy doesn't read. So the two structures' few fields are read here; where anything differs from what Pillow's
documentation promises, the pixels are copied instead.
Source: https://arrow.apache.org/docs/format/CDataInterface.html and CDataInterface/PyCapsuleInterface.html
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image as PillowImage

WORD: Final = "<u4"
"""One pixel: red in the lowest byte, then green, then blue; the highest means nothing."""


class _Array(ctypes.Structure):
    """`struct ArrowArray` of the specification."""


_Array._fields_ = [
    ("length", ctypes.c_int64),
    ("null_count", ctypes.c_int64),
    ("offset", ctypes.c_int64),
    ("n_buffers", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(_Array))),
    ("dictionary", ctypes.c_void_p),
    ("release", ctypes.c_void_p),
    ("private_data", ctypes.c_void_p),
]

_open_capsule = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


class _Shown:
    """Pillow's memory as NumPy's array interface, version 3; the capsules keep it alive."""

    def __init__(self, capsules: object, address: int, width: int, height: int) -> None:
        self.capsules = capsules
        self.__array_interface__: dict[str, Any] = {
            "version": 3,
            "shape": (height, width),
            "typestr": WORD,
            "data": (address, True),  # read only
        }


def read_words(picture: PillowImage) -> NDArray[np.uint32]:
    """The pixels of a picture of mode "RGB", shape (h, w), one `WORD` each; not to be written to."""
    address, capsules = _find_address(picture)
    if address:
        return np.asarray(_Shown(capsules, address, *picture.size))
    return np.frombuffer(picture.tobytes("raw", "RGBX"), WORD).reshape(picture.height, picture.width)


def _find_address(picture: PillowImage) -> tuple[int, object]:
    """Where the pixels lie, and what keeps them there; 0 where they aren't in one piece."""
    try:
        capsules = picture.__arrow_c_array__()
    except ValueError:  # a large picture lies in several blocks
        return 0, None
    array = _Array.from_address(_open_capsule(capsules[1], b"arrow_array"))
    pixels = picture.width * picture.height
    if (array.length, array.offset, array.n_children) != (pixels, 0, 1):
        return 0, None
    values = array.children[0].contents
    if (values.length, values.offset, values.n_buffers) != (4 * pixels, 0, 2):
        return 0, None
    return values.buffers[1] or 0, capsules

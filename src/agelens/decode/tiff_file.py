"""Pillow's TIFF reader without its look at a global limit; apart, since only a TIFF needs it."""

from __future__ import annotations

from PIL import ImageFile, TiffImagePlugin


class UnboundedTiffFile(TiffImagePlugin.TiffImageFile):
    """A TIFF file whose loading does not compare its size with the global limit."""

    def load_prepare(self) -> None:
        ImageFile.ImageFile.load_prepare(self)

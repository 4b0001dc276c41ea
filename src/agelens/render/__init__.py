"""Report -> annotated picture."""

from agelens.render.annotation import annotate, crop_face, draw_on
from agelens.render.encoding import LONGEST_SIDE, encode_picture, picture_extensions, save_picture

__all__ = [
    "LONGEST_SIDE",
    "annotate",
    "crop_face",
    "draw_on",
    "encode_picture",
    "picture_extensions",
    "save_picture",
]

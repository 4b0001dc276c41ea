"""Report -> annotated picture."""

from agelens.render.annotation import annotate, crop_face, draw_on, picture_extensions, save_picture

__all__ = ["annotate", "crop_face", "draw_on", "picture_extensions", "save_picture"]

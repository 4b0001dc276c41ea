"""Bytes -> upright RGB pixels: the only place that decodes."""

from agelens.decode.decoder import decode, decode_any, from_array, from_pil, name_of

__all__ = ["decode", "decode_any", "from_array", "from_pil", "name_of"]

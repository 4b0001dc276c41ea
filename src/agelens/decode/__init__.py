"""Bytes -> upright RGB pixels: the only place that decodes."""

from agelens.decode.decoder import decode, decode_any, from_array, from_pil
from agelens.formats import SUPPORTED, formats
from agelens.limits import DEFAULT_LIMITS, Limits

__all__ = ["DEFAULT_LIMITS", "SUPPORTED", "Limits", "decode", "decode_any", "formats", "from_array", "from_pil"]

"""What a user names -> the bytes of pictures."""

from agelens.sources.find import Source, as_source, find_sources

__all__ = ["Source", "as_source", "find_sources"]

"""The HTTP API and the page: pictures in by POST, records out, as `agelens predict` gives them."""

from agelens.server.settings import ServerSettings

__all__ = ["ServerSettings"]

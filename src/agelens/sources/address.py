"""What kind of address a text is. Apart from the fetching, whose imports cost more than a prediction's start."""

from __future__ import annotations

from typing import Final

SCHEMES: Final = ("http://", "https://")


def is_web_address(text: str) -> bool:
    """Whether `text` starts with http:// or https://; a file named http_photo.png does not."""
    return text.lower().startswith(SCHEMES)


def local_path(text: str) -> str:
    """The path of a `file://` address; any other text as it is."""
    if not text.lower().startswith("file://"):
        return text
    from urllib.request import url2pathname

    host, slash, path = text[len("file://") :].partition("/")
    return url2pathname(slash + path) if host in {"", "localhost"} else text

"""Reports as a table for people: one line a face, written as soon as it is known."""

from __future__ import annotations

import io
from typing import TextIO

from agelens.serialise.record import to_record
from agelens.types import Box, Face, Report
from agelens.wording import describe_age, describe_gender, describe_group, to_whole

_TITLES = ("source", "face", "age", "gender", "box", "score")
_WIDTHS = (0, 4, 12, 11, 19, 5)
_GROUP_WIDTH = 14
_LEAST_SOURCE, _MOST_SOURCE, _SOURCE_OFF_TERMINAL = 16, 60, 32
_WIDE = 100
_GAP = "  "
_ASCII = str.maketrans({"–": "-", "×": "x", "…": "~"})
_COLOURS = {"female": "yellow", "male": "cyan", "unknown": "dim"}


class TableText:
    """A table of fixed columns, so that no line waits for another.

    On a terminal, colours are used and long names lose their beginning; elsewhere nothing is cut off. Faces are
    numbered from 0, as everywhere. Characters of a name that do not print are escaped: a name cannot move the cursor.

    Args:
        stream: Where the table will go, or None for a file: tells the width, the colours and the characters to use.
    """

    separator = closing = ""
    keepable = True

    def __init__(self, stream: TextIO | None) -> None:
        # Imported here: only who asks for a table pays for rich.
        from rich.cells import cell_len
        from rich.console import Console
        from rich.text import Text

        self._cell_len = cell_len
        self._text = Text
        self._console = Console(file=stream or io.StringIO(), highlight=False, markup=False, emoji=False)
        self._cut = self._console.is_terminal
        self._ascii = stream is not None and not _can_write(stream, "–×…")
        width = self._console.width
        self._grouped = not self._cut or width >= _WIDE
        self._widths = list(_WIDTHS) + [_GROUP_WIDTH] * self._grouped
        left = width - sum(self._widths) - len(_GAP) * (len(self._widths) - 1)
        self._widths[0] = min(max(left, _LEAST_SOURCE), _MOST_SOURCE) if self._cut else _SOURCE_OFF_TERMINAL
        titles = [*_TITLES, "group"][: len(self._widths)]
        self.opening = self._line([(title, "bold") for title in titles])

    def body(self, report: Report) -> str:
        """The lines of one report.

        Raises:
            RecordError: It holds what no record may hold.
        """
        to_record(report)
        source = _printable(report.source)
        if report.time_seconds is not None:
            source += f" {report.time_seconds:.2f} s"
        if report.error:
            said = f"{report.error.code}: {_printable(report.error.message)}"
            return self._line([(source, ""), (said, "red")])
        if not report.faces:
            return self._line([(source, ""), ("no face detected", "magenta")])
        return "".join(self._line([(source, ""), *self._cells(i, f)]) for i, f in enumerate(report.faces))

    def _cells(self, number: int, face: Face) -> list[tuple[str, str]]:
        gender = face.gender
        return [
            (str(number) if face.track is None else f"#{face.track}", "dim"),
            (describe_age(face.age) if face.age else "", "bold"),
            (describe_gender(gender) if gender else "", _COLOURS[gender.label] if gender else ""),
            (_describe_box(face.box), "dim"),
            (f"{round(face.detection_score, 4):.2f}", "dim"),
            (_printable(describe_group(face.age)) if face.age else "", ""),
        ][: len(self._widths) - 1]

    def _line(self, cells: list[tuple[str, str]]) -> str:
        line = self._text()
        for i, ((text, style), width) in enumerate(zip(cells, self._widths, strict=False)):
            fitted = self._tail(text, width) if i == 0 and self._cut else text
            line.append(fitted, style)
            if i + 1 < len(cells):
                line.append(" " * max(width - self._cell_len(fitted), 0) + _GAP)
        with self._console.capture() as capture:
            self._console.print(line, soft_wrap=True)
        written = capture.get()
        return written.translate(_ASCII) if self._ascii else written

    def _tail(self, text: str, width: int) -> str:
        """The end of a name, where the file is, rather than its beginning."""
        if self._cell_len(text) <= width:
            return text
        start = max(len(text) - width, 0)
        while self._cell_len(text[start:]) > width - 1:
            start += 1
        return "…" + text[start:]


def _describe_box(box: Box) -> str:
    x, y, width, height = map(to_whole, (box.x, box.y, box.width, box.height))
    return f"{x},{y} {width}×{height}"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _can_write(stream: TextIO, characters: str) -> bool:
    try:
        characters.encode(getattr(stream, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True

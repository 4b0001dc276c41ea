"""The map function: an Arrow table with pictures in, an Arrow table with faces out, whatever engine calls it."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from functools import lru_cache, partial
from typing import Any, Final, Unpack, cast

import pyarrow as pa

from agelens.analyzer import Analyzer, Settings, check_settings
from agelens.batch.columns import PictureColumns, find_columns, open_source, read_rows
from agelens.batch.fetched import fetch_ahead
from agelens.batch.places import open_place
from agelens.serialise import arrow_schema, to_arrow
from agelens.sources import Source
from agelens.types import Report
from agelens.zoo import DEFAULT_MODEL

ROWS: Final = 1024
"""Rows of one batch that `stream` gives, about."""

_opening = threading.Lock()


class ArrowPredictor:
    """Arrow in, Arrow out: the same columns as `agelens predict -o faces.parquet`.

    One row a face; one row with empty face columns for a picture without faces or with an error. It is small and can
    be pickled: the models are opened at the first batch, once for each process and setting, and then kept.

        dataset.map_batches(ArrowPredictor(), batch_format="pyarrow")          # Ray Data, as tasks
        frame.mapInArrow(ArrowPredictor().stream, ArrowPredictor.ddl())       # Spark

    Args:
        model: Name of a model that ships, or path of an ONNX file that every worker can read.
        column: The column of bytes or of paths; found by type and name where it isn't given.
        name_column: The column that becomes `source`; by default a usual one, or the path, or the row's number.
        root: Where relative paths start: a folder or a URL that every worker can read.
        allow_url: Whether web addresses may be fetched.
        **settings: See `agelens.analyzer.Settings`. `threads` is 1 here, as engines run a worker a core.

    Raises:
        UsageError: A setting makes no sense.
    """

    def __init__(
        self,
        model: str = DEFAULT_MODEL,
        *,
        column: str | None = None,
        name_column: str | None = None,
        root: str = "",
        allow_url: bool = False,
        **settings: Unpack[Settings],
    ) -> None:
        check_settings(settings)
        self._model = model
        self._columns = (column, name_column)
        self._root = root
        self._allow_url = allow_url
        self._settings = {"threads": 1, **settings}

    @property
    def schema(self) -> pa.Schema:
        """The schema of what comes out."""
        return arrow_schema()

    @staticmethod
    def ddl() -> str:
        """The same schema as Spark writes it: `schema string, source string, width int, ...`."""
        names = {pa.string(): "string", pa.int32(): "int", pa.float64(): "double"}
        return ", ".join(f"`{field.name}` {names[field.type]}" for field in arrow_schema())

    @property
    def analyzer(self) -> Analyzer:
        """The one that works, opened when it is first asked for.

        Raises:
            ModelError: The model is unknown, damaged or unfit.
            UsageError: The device isn't there.
        """
        with _opening:
            try:
                return _open(self._model, tuple(sorted(self._settings.items())))
            except TypeError:  # a setting that has no hash, such as one's own detector, can't be kept
                return _open.__wrapped__(self._model, tuple(self._settings.items()))

    def __call__(self, table: pa.Table) -> pa.Table:
        """The faces of a table of pictures, in order.

        Args:
            table: A table or record batch with a column of bytes or of paths.

        Raises:
            UsageError: It isn't clear which column that is.
            ModelError: The model is unknown, damaged or unfit.
        """
        batches = self.stream([table])
        return pa.Table.from_batches(list(batches), self.schema)

    def stream(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The faces of batches of pictures, in order, lazily and in bounded memory: what `mapInArrow` asks for.

        Raises:
            UsageError: It isn't clear which column holds pictures.
            ModelError: The model is unknown, damaged or unfit.
        """
        analyzer = self.analyzer
        limits = analyzer.limits
        gathered: list[Report] = []
        rows = 0
        for report in analyzer.stream(fetch_ahead(self._pictures(batches), limits)):
            gathered.append(report)
            rows += max(len(report.faces), 1)
            if rows >= ROWS:
                yield to_arrow(gathered)
                gathered, rows = [], 0
        if gathered:
            yield to_arrow(gathered)

    def _pictures(self, batches: Iterable[pa.RecordBatch]) -> Iterator[Source]:
        columns: PictureColumns | None = None
        opener = partial(open_source, root=open_place(self._root) if self._root else None, allow_url=self._allow_url)
        seen = 0
        for batch in batches:
            columns = columns or find_columns(batch.schema, *self._columns)
            yield from read_rows(batch, columns, partial(_name_row, seen), opener)
            seen += batch.num_rows


def _name_row(before: int, row: int) -> str:
    return f"row {before + row}"


@lru_cache(maxsize=2)
def _open(model: str, settings: tuple[tuple[str, Any], ...]) -> Analyzer:
    return Analyzer(model, **cast("Settings", dict(settings)))

"""Who is who: the cheapest one-to-one assignment, exactly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FORBIDDEN = 1e6
"""The cost of a pair that must not be; all others cost less than a thousandth of it."""


def assign(costs: Floats) -> list[tuple[int, int]]:
    """The assignment of rows to columns with the least total cost, without forbidden pairs.

    As many pairs as possible are made of those that are allowed; among these choices the cheapest counts. The method is
    that of shortest augmenting paths (Jonker & Volgenant, "A shortest augmenting path algorithm for dense and sparse
    linear assignment problems", Computing 38, 1987; Crouse, IEEE TAES 52, 2016), O(rows² columns).

    Args:
        costs: Shape (rows, columns), not negative; `FORBIDDEN` or more for a pair that must not be.

    Returns:
        Pairs (row, column), by row.
    """
    if not costs.size:
        return []
    turned = costs.shape[0] > costs.shape[1]
    table = np.minimum(costs.T if turned else costs, FORBIDDEN)
    rows, columns = table.shape
    row_of = np.full(columns, -1)
    column_price = np.zeros(columns)
    row_price = np.zeros(rows)
    for start in range(rows):
        _augment(table, start, row_of, row_price, column_price)
    pairs = [(int(row), column) for column, row in enumerate(row_of) if row >= 0 and table[row, column] < FORBIDDEN]
    return sorted((column, row) if turned else (row, column) for row, column in pairs)


def _augment(table: Floats, start: int, row_of: NDArray[np.intp], row_price: Floats, column_price: Floats) -> None:
    """Gives row `start` a column, along the path of least reduced cost; `row_of` and the prices are updated."""
    columns = table.shape[1]
    cost = np.full(columns, np.inf)  # of the best path to each column
    before = np.full(columns, -1)  # the row from which it is reached
    reached = np.zeros(columns, dtype=bool)
    column_of = {int(row): column for column, row in enumerate(row_of) if row >= 0}
    row, least = start, 0.0
    while True:
        through = least + table[row] - row_price[row] - column_price
        better = ~reached & (through < cost)
        cost[better], before[better] = through[better], row
        sink = int(np.argmin(np.where(reached, np.inf, cost)))
        least = float(cost[sink])
        reached[sink] = True
        if row_of[sink] < 0:
            break
        row = int(row_of[sink])
    row_price[start] += least
    for column in np.flatnonzero(reached):
        if row_of[column] >= 0:
            row_price[row_of[column]] += least - cost[column]
        column_price[column] -= least - cost[column]
    while True:
        row = int(before[sink])
        row_of[sink] = row
        if row == start:
            return
        following = column_of[row]
        sink = following

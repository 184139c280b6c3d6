"""Who belongs to whom at the least cost: the assignment problem (Kuhn, 1955; Munkres, 1957), for a few people."""

from __future__ import annotations

import numpy as np

BEYOND = 1e6  # more than any sum of true costs


def assign(cost: np.ndarray) -> list[tuple[int, int]]:
    """(row, column) pairs of the least sum, each row and column once at most; ascending by row.

    Args:
        cost: (N, M); +inf: never these two. As many pairs as can be are made.
    """
    rows, columns = cost.shape
    if not rows or not columns:
        return []
    if rows > columns:
        return sorted((i, j) for j, i in assign(cost.T))
    finite = np.where(np.isfinite(cost), cost, BEYOND)
    # Shortest augmenting paths with potentials u, v; column 0 is a dummy where a path starts.
    u, v = np.zeros(rows + 1), np.zeros(columns + 1)
    owner = np.zeros(columns + 1, int)  # row of each column, counted from 1; 0: free
    for row in range(1, rows + 1):
        owner[0], column = row, 0
        least, before = np.full(columns + 1, np.inf), np.zeros(columns + 1, int)
        done = np.zeros(columns + 1, bool)
        while owner[column]:
            done[column] = True
            reduced = finite[owner[column] - 1] - u[owner[column]] - v[1:]
            better = ~done[1:] & (reduced < least[1:])
            least[1:][better], before[1:][better] = reduced[better], column
            column = int(np.argmin(np.where(done, np.inf, least)))
            step = least[column]
            u[owner[done]] += step
            v[done] -= step
            least[~done] -= step
        while column:
            owner[column] = owner[before[column]]
            column = int(before[column])
    pairs = [(int(owner[j]) - 1, j - 1) for j in range(1, columns + 1) if owner[j]]
    return sorted((i, j) for i, j in pairs if np.isfinite(cost[i, j]))

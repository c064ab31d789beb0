"""The grid engine's loops for the CPU, compiled by numba.

In: the plans of queries and keys and the products of their nodes, as numpy arrays. Out: the best
keys of the queries of a range of blocks, written into the caller's arrays. The loops hold no lock,
so that threads run ranges side by side; a result depends on neither the ranges nor the threads.

Symbols: `g[i][j]` is the product of the query node i and the key node j of two cells, `omega[x, i]`
the coefficient of query node i in corner x of the query block, `w` the coefficients of a key.
"""

from __future__ import annotations

import numpy as np

from warpkit.match.grid.compiled import compiled, inner

__all__ = ["bound_cells", "refine_windows", "search_blocks"]

_NEVER = np.float32(-4)  # below every cosine
_TAKEN = np.float32(-1e30)


@compiled
def bound_cells(products, cell_nodes, cell_stretch, bounds):
    """For every row of products the largest score that a key of a cell can have.

    products: float32 (n, keys' nodes). cell_nodes, cell_stretch: of the keys' plan.
    bounds: float32 (n, c), written.
    """
    for n in range(len(products)):
        row = products[n]
        out = bounds[n]
        for c in range(len(cell_nodes)):
            m = max(
                max(row[cell_nodes[c, 0]], row[cell_nodes[c, 1]]),
                max(row[cell_nodes[c, 2]], row[cell_nodes[c, 3]]),
            )
            out[c] = m * (cell_stretch[c, 0] if m > 0 else cell_stretch[c, 1])


@inner
def _key_products(g, columns, w, out):
    """Products of the four query nodes with keys of one cell, of coefficients w (P, 4): out (4, P).

    columns: the cell's nodes.
    """
    j0, j1, j2, j3 = columns[0], columns[1], columns[2], columns[3]
    for i in range(4):
        g0, g1, g2, g3 = g[i][j0], g[i][j1], g[i][j2], g[i][j3]
        row = out[i]
        for p in range(len(w)):
            row[p] = g0 * w[p, 0] + g1 * w[p, 1] + g2 * w[p, 2] + g3 * w[p, 3]


@inner
def _mix(a, r, count, out):
    """out[p] = sum_i a[i] r[i, p] for p < count, and the largest of them."""
    a0, a1, a2, a3 = a[0], a[1], a[2], a[3]
    r0, r1, r2, r3 = r[0], r[1], r[2], r[3]
    best = _NEVER
    for p in range(count):
        s = a0 * r0[p] + a1 * r1[p] + a2 * r2[p] + a3 * r3[p]
        out[p] = s
        best = max(best, s)
    return best


@inner
def _largest(values, start, stop):
    best = _TAKEN
    for i in range(start, stop):
        best = max(best, values[i])
    return best


@inner
def _find_seeds(g, bounds, omega, key, scratch, products, scores, seed, seed_products):
    """The k best keys for the middle of a query block, in the cells that promise it most.

    scratch, products, scores: for c cells and the keys of a block.
    seed: int64 (k,), sites of the keys, best first; written.
    seed_products: float32 (4, k), their products with the query nodes; written.

    Returns how many were found; fewer than k only if there are no more keys.
    """
    k = len(seed)
    middle, best = np.empty(4, np.float32), np.empty(k, np.float32)
    for i in range(4):
        middle[i] = omega[0, i] + omega[1, i] + omega[2, i] + omega[3, i]
    _mix(middle, bounds, len(scratch), scratch)
    for r in range(k):
        best[r] = _TAKEN
    found = 0
    while found < k:
        promise = _largest(scratch, 0, len(scratch))
        if promise == _TAKEN:
            break
        cell = 0
        while scratch[cell] != promise:
            cell += 1
        scratch[cell] = _TAKEN
        for block in range(key.cell_blocks[cell], key.cell_blocks[cell + 1]):
            first, last = key.block_sites[block], key.block_sites[block + 1]
            _key_products(g, key.cell_nodes[cell], key.coefficient[first:last], products)
            if _mix(middle, products, last - first, scores) <= best[k - 1]:
                continue
            for p in range(last - first):
                if scores[p] > best[k - 1]:
                    at = k - 1
                    while at > 0 and scores[p] > best[at - 1]:
                        best[at], seed[at] = best[at - 1], seed[at - 1]
                        for i in range(4):
                            seed_products[i, at] = seed_products[i, at - 1]
                        at -= 1
                    best[at], seed[at] = scores[p], key.site[first + p]
                    for i in range(4):
                        seed_products[i, at] = products[i, p]
                    found += 1
    return min(found, k)


@inner
def _find_thresholds(omega, seed_products, threshold):
    """What every seed scores at least at each corner of a query block: threshold (4,).

    A query of the block is a combination of the corners with non-negative coefficients, so that a
    key below the threshold at all four corners scores less than each of the k seeds.
    """
    for x in range(4):
        threshold[x] = 4
        for f in range(seed_products.shape[1]):
            s = np.float32(0)
            for i in range(4):
                s += omega[x, i] * seed_products[i, f]
            threshold[x] = min(threshold[x], s)


@inner
def _cell_excess(bounds, omega, threshold, excess):
    """How far every cell's bound exceeds the threshold, at the corner where it does so most."""
    v0, v1, v2, v3 = bounds[0], bounds[1], bounds[2], bounds[3]
    a0, a1, a2, a3 = omega[0, 0], omega[0, 1], omega[0, 2], omega[0, 3]
    b0, b1, b2, b3 = omega[1, 0], omega[1, 1], omega[1, 2], omega[1, 3]
    c0, c1, c2, c3 = omega[2, 0], omega[2, 1], omega[2, 2], omega[2, 3]
    d0, d1, d2, d3 = omega[3, 0], omega[3, 1], omega[3, 2], omega[3, 3]
    ta, tb, tc, td = threshold[0], threshold[1], threshold[2], threshold[3]
    for c in range(len(excess)):
        a = a0 * v0[c] + a1 * v1[c] + a2 * v2[c] + a3 * v3[c] - ta
        b = b0 * v0[c] + b1 * v1[c] + b2 * v2[c] + b3 * v3[c] - tb
        e = c0 * v0[c] + c1 * v1[c] + c2 * v2[c] + c3 * v3[c] - tc
        f = d0 * v0[c] + d1 * v1[c] + d2 * v2[c] + d3 * v3[c] - td
        excess[c] = max(max(a, b), max(e, f))


@inner
def _corner_products(g, columns, omega, out):
    """Products of a query block's corners with the four nodes of a key cell: out (4, 4)."""
    for x in range(4):
        for j in range(4):
            column = columns[j]
            out[x, j] = (
                omega[x, 0] * g[0][column]
                + omega[x, 1] * g[1][column]
                + omega[x, 2] * g[2][column]
                + omega[x, 3] * g[3][column]
            )


@inner
def _block_excess(corner_products, corners, stretch, threshold):
    """The same for one block of keys, from the products with its own corners."""
    excess = _NEVER
    for x in range(4):
        m = _NEVER
        for y in range(4):
            s = np.float32(0)
            for j in range(4):
                s += corner_products[x, j] * corners[y, j]
            m = max(m, s)
        m *= stretch[0] if m > 0 else stretch[1]
        excess = max(excess, m - threshold[x])
    return excess


@compiled
def search_blocks(
    products, bounds, first_row, query, key, first_block, last_block, tolerance, index, similarity
):
    """The k best keys of every query in blocks [first_block, last_block).

    products: float32 (rows, keys' nodes); its first row belongs to query node `first_row`.
    bounds: float32 (rows, c), from `bound_cells`.
    query, key: `cpu.PlanArrays`.
    tolerance: scores closer than this are a tie. For k = 1 the lowest row wins a tie; for more,
        keys are ordered by their score, and exactly equal ones by their row.
    index, similarity: (queries, k), written at the rows `query.site`.

    Returns the number of (block, cell) pairs, (block, block of keys) pairs and (query, key) pairs
    that were looked at.
    """
    k = index.shape[1]
    cells = len(key.cell_nodes)
    most = 1
    for block in range(len(key.block_cell)):
        most = max(most, key.block_sites[block + 1] - key.block_sites[block])
    widest = 1
    for block in range(first_block, last_block):
        widest = max(widest, query.block_sites[block + 1] - query.block_sites[block])
    excess = np.empty(cells, np.float32)
    key_products = np.empty((4, most), np.float32)
    scores = np.empty(most, np.float32)
    corner_products = np.empty((4, 4), np.float32)
    seed = np.empty(k, np.int64)
    seed_products = np.empty((4, k), np.float32)
    seed_scores = np.empty(k, np.float32)
    threshold = np.empty(4, np.float32)
    top = np.empty(widest, np.float32)
    best = np.empty((widest, k), np.float32)
    chosen = np.empty((widest, k), np.int64)
    looked = np.empty(3, np.int64)
    looked[0] = looked[1] = looked[2] = 0

    for block in range(first_block, last_block):
        start, stop = query.block_sites[block], query.block_sites[block + 1]
        count = stop - start
        nodes = query.cell_nodes[query.block_cell[block]]
        r0, r1, r2, r3 = (
            nodes[0] - first_row, nodes[1] - first_row, nodes[2] - first_row, nodes[3] - first_row,
        )  # fmt: skip
        g = (products[r0], products[r1], products[r2], products[r3])
        limits = (bounds[r0], bounds[r1], bounds[r2], bounds[r3])
        omega = query.block_corners[block]
        found = _find_seeds(
            g, limits, omega, key, excess, key_products, scores, seed, seed_products
        )
        if found == k:
            _find_thresholds(omega, seed_products, threshold)
        else:
            for x in range(4):
                threshold[x] = _NEVER
        # A query is a combination of the corners whose coefficients add up to its stretch: what
        # exceeds the thresholds by no more than the slack exceeds no score by half a tie.
        slack = tolerance / 2 / query.block_stretch[block, 0]
        _cell_excess(limits, omega, threshold, excess)
        for q in range(count):
            for r in range(k):
                best[q, r], chosen[q, r] = _NEVER, -1
            top[q] = _mix(query.coefficient[start + q], seed_products, found, seed_scores)
            _insert(seed_scores[:found], seed[:found], best[q], chosen[q])
        # The highest row chosen so far. What can only tie is of no use beyond it.
        furthest = _furthest(chosen, count)

        for chunk in range(0, cells, 64):
            if _largest(excess, chunk, min(cells, chunk + 64)) <= -slack:
                continue
            for cell in range(chunk, min(cells, chunk + 64)):
                if excess[cell] <= -slack or (
                    excess[cell] <= slack and (k > 1 or key.cell_first[cell] >= furthest)
                ):
                    continue
                looked[0] += 1
                columns = key.cell_nodes[cell]
                _corner_products(g, columns, omega, corner_products)
                for other in range(key.cell_blocks[cell], key.cell_blocks[cell + 1]):
                    promise = _block_excess(
                        corner_products,
                        key.block_corners[other],
                        key.block_stretch[other],
                        threshold,
                    )
                    if promise <= -slack or (
                        promise <= slack and (k > 1 or key.block_first[other] >= furthest)
                    ):
                        continue
                    first, last = key.block_sites[other], key.block_sites[other + 1]
                    looked[1] += 1
                    looked[2] += np.int64(count) * (last - first)
                    _key_products(g, columns, key.coefficient[first:last], key_products)
                    sites = key.site[first:last]
                    for q in range(count):
                        a = query.coefficient[start + q]
                        m = _mix(a, key_products, last - first, scores)
                        if k > 1:
                            if m >= best[q, k - 1]:
                                _insert(scores, sites, best[q], chosen[q])
                        elif m >= top[q] - tolerance:
                            top[q] = max(top[q], m)
                            _keep_lowest(scores, sites, top[q] - tolerance, best[q], chosen[q])
                    furthest = _furthest(chosen, count)
        for q in range(count):
            row = query.site[start + q]
            for r in range(k):
                index[row, r] = chosen[q, r]
                if chosen[q, r] >= 0:
                    similarity[row, r] = min(max(best[q, r], np.float32(-1)), np.float32(1))
    return looked


@inner
def _furthest(chosen, count):
    """The highest row that is the best of one of the first queries."""
    furthest = chosen[0, 0]
    for q in range(1, count):
        furthest = max(furthest, chosen[q, 0])
    return furthest


@inner
def _keep_lowest(scores, sites, enough, best, chosen):
    """Choose the lowest of the old choice and these keys among those that score `enough`."""
    for p in range(len(sites)):
        if scores[p] >= enough:
            # Sites increase within a block: the first that is good enough is the lowest.
            if best[0] < enough or sites[p] < chosen[0]:
                best[0] = scores[p]
                chosen[0] = sites[p]
            return


@inner
def _insert(scores, sites, best, chosen):
    """Keep the k best, best first, the lowest row first among equal scores; each row once."""
    k = len(best)
    for p in range(len(sites)):
        s, site = scores[p], sites[p]
        if s < best[k - 1] or (s == best[k - 1] and site > chosen[k - 1]):
            continue
        known = False
        for r in range(k):
            known = known or chosen[r] == site
        if known:
            continue
        at = k - 1
        while at > 0 and (s > best[at - 1] or (s == best[at - 1] and site < chosen[at - 1])):
            best[at] = best[at - 1]
            chosen[at] = chosen[at - 1]
            at -= 1
        best[at] = s
        chosen[at] = site


@compiled
def refine_windows(
    products,
    first_row,
    query,
    first_block,
    last_block,
    index,
    key_pixel,
    pixel_nodes,
    pixel_coefficient,
    width,
    radius,
    temperature,
    refined,
):
    """The mean place of the window around every match, by softmax of the products.

    query: `PlanArrays`; the sites of its blocks [first_block, last_block) are refined.
    index: (queries, k), matches as rows of the keys.
    key_pixel: int64 (keys,), the row-major pixel of every key.
    pixel_nodes, pixel_coefficient: (pixels, 4) of the keys' image; coefficients are all 0 where a
        pixel is no candidate.
    refined: float32 (queries, k, 2), (x, y), written where there is a match.
    """
    height = len(pixel_nodes) // width
    side = 2 * radius + 1
    scores = np.empty(side * side, np.float32)
    for block in range(first_block, last_block):
        nodes = query.cell_nodes[query.block_cell[block]]
        g0, g1 = products[nodes[0] - first_row], products[nodes[1] - first_row]
        g2, g3 = products[nodes[2] - first_row], products[nodes[3] - first_row]
        for q in range(query.block_sites[block], query.block_sites[block + 1]):
            a = query.coefficient[q]
            for rank in range(index.shape[1]):
                match = index[query.site[q], rank]
                if match < 0:
                    continue
                x, y = key_pixel[match] % width, key_pixel[match] // width
                left, right = max(0, x - radius), min(width - 1, x + radius)
                upper, lower = max(0, y - radius), min(height - 1, y + radius)
                best, n = _NEVER, 0
                for v in range(upper, lower + 1):
                    for u in range(left, right + 1):
                        w = pixel_coefficient[v * width + u]
                        s = np.float32(0)
                        for j in range(4):
                            column = pixel_nodes[v * width + u, j]
                            s += w[j] * (
                                a[0] * g0[column]
                                + a[1] * g1[column]
                                + a[2] * g2[column]
                                + a[3] * g3[column]
                            )
                        scores[n] = s if w[0] + w[1] + w[2] + w[3] > 0 else _NEVER
                        best = max(best, scores[n])
                        n += 1
                total, mean_x, mean_y, n = 0.0, 0.0, 0.0, 0
                for v in range(upper, lower + 1):
                    for u in range(left, right + 1):
                        if scores[n] > _NEVER:
                            weight = np.exp((scores[n] - best) / temperature)
                            total += weight
                            mean_x += weight * (u - x)
                            mean_y += weight * (v - y)
                        n += 1
                refined[query.site[q], rank, 0] = x + mean_x / total
                refined[query.site[q], rank, 1] = y + mean_y / total

"""The grid engine's loops for NVIDIA GPUs, as Triton kernels: the steps and names of `loops`.

One program searches for one block of queries. All scores are float32 sums of float32 products.
"""

import triton
import triton.language as tl

__all__ = ["bound_cells", "search_blocks"]


@triton.jit
def bound_cells(products, bounds, cell_nodes, cell_stretch, columns, cells, CELLS: tl.constexpr):
    """bounds[n, c]: the largest score that a key of cell c can have with query node n."""
    row = tl.program_id(0).to(tl.int64)
    cell = tl.program_id(1) * CELLS + tl.arange(0, CELLS)
    inside = cell < cells
    largest = tl.full([CELLS], -4.0, tl.float32)
    for j in tl.static_range(4):
        node = tl.load(cell_nodes + cell * 4 + j, mask=inside, other=0)
        largest = tl.maximum(largest, tl.load(products + row * columns + node, mask=inside))
    high = tl.load(cell_stretch + cell * 2, mask=inside)
    low = tl.load(cell_stretch + cell * 2 + 1, mask=inside)
    bound = largest * tl.where(largest > 0, high, low)
    tl.store(bounds + row * cells + cell, bound, mask=inside)


@triton.jit
def _corner_mix(omega, x: tl.constexpr, v0, v1, v2, v3):
    """sum_i omega[x, i] v_i."""
    return (
        tl.load(omega + x * 4) * v0
        + tl.load(omega + x * 4 + 1) * v1
        + tl.load(omega + x * 4 + 2) * v2
        + tl.load(omega + x * 4 + 3) * v3
    )


@triton.jit
def _key_products(row, j0, j1, j2, j3, w0, w1, w2, w3):
    """Products of one query node with keys: (KEYS,)."""
    return (
        tl.load(row + j0) * w0
        + tl.load(row + j1) * w1
        + tl.load(row + j2) * w2
        + tl.load(row + j3) * w3
    )


@triton.jit
def search_blocks(
    products,
    bounds,
    first_row,
    first_block,
    q_cell_nodes,
    q_block_cell,
    q_block_sites,
    q_block_corners,
    q_block_stretch,
    q_site,
    q_coefficient,
    k_cell_nodes,
    k_cell_blocks,
    k_cell_first,
    k_block_sites,
    k_block_corners,
    k_block_stretch,
    k_block_first,
    k_site,
    k_coefficient,
    index,
    similarity,
    columns,
    cells,
    tolerance,
    CELLS: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
):
    """The best key of every query of one block; the steps and names of `cpu.search_blocks`."""
    NEVER: tl.constexpr = -4.0
    TAKEN: tl.constexpr = -1e30
    FAR: tl.constexpr = 2**62
    block = first_block + tl.program_id(0)
    start = tl.load(q_block_sites + block)
    count = tl.load(q_block_sites + block + 1) - start
    q = tl.arange(0, QUERIES)
    member = q < count
    nodes = q_cell_nodes + tl.load(q_block_cell + block) * 4
    r0 = (tl.load(nodes) - first_row).to(tl.int64)
    r1 = (tl.load(nodes + 1) - first_row).to(tl.int64)
    r2 = (tl.load(nodes + 2) - first_row).to(tl.int64)
    r3 = (tl.load(nodes + 3) - first_row).to(tl.int64)
    g0, g1, g2, g3 = (
        products + r0 * columns,
        products + r1 * columns,
        products + r2 * columns,
        products + r3 * columns,
    )
    l0, l1, l2, l3 = (
        bounds + r0 * cells,
        bounds + r1 * cells,
        bounds + r2 * cells,
        bounds + r3 * cells,
    )
    omega = q_block_corners + block * 16
    lane = tl.arange(0, CELLS)
    p = tl.arange(0, KEYS)

    # The cell that promises most to the middle of the block, and its best key.
    m0 = 0.0
    m1 = 0.0
    m2 = 0.0
    m3 = 0.0
    for x in tl.static_range(4):
        m0 += tl.load(omega + x * 4)
        m1 += tl.load(omega + x * 4 + 1)
        m2 += tl.load(omega + x * 4 + 2)
        m3 += tl.load(omega + x * 4 + 3)
    promise = TAKEN
    seed = 0
    for chunk in range(0, cells, CELLS):
        cell = chunk + lane
        inside = cell < cells
        value = (
            m0 * tl.load(l0 + cell, mask=inside, other=0)
            + m1 * tl.load(l1 + cell, mask=inside, other=0)
            + m2 * tl.load(l2 + cell, mask=inside, other=0)
            + m3 * tl.load(l3 + cell, mask=inside, other=0)
        )
        value = tl.where(inside, value, TAKEN)
        best_value = tl.max(value, axis=0)
        if best_value > promise:
            promise = best_value
            seed = chunk + tl.argmax(value, axis=0)
    j0 = tl.load(k_cell_nodes + seed * 4)
    j1 = tl.load(k_cell_nodes + seed * 4 + 1)
    j2 = tl.load(k_cell_nodes + seed * 4 + 2)
    j3 = tl.load(k_cell_nodes + seed * 4 + 3)
    first = tl.load(k_block_sites + tl.load(k_cell_blocks + seed))
    last = tl.load(k_block_sites + tl.load(k_cell_blocks + seed + 1))
    best_seed = TAKEN
    seed_site = tl.load(k_site + first)
    t0 = 0.0
    t1 = 0.0
    t2 = 0.0
    t3 = 0.0
    for at in range(first, last, KEYS):
        inside = at + p < last
        w = k_coefficient + (at + p) * 4
        w0 = tl.load(w, mask=inside, other=0)
        w1 = tl.load(w + 1, mask=inside, other=0)
        w2 = tl.load(w + 2, mask=inside, other=0)
        w3 = tl.load(w + 3, mask=inside, other=0)
        s0 = _key_products(g0, j0, j1, j2, j3, w0, w1, w2, w3)
        s1 = _key_products(g1, j0, j1, j2, j3, w0, w1, w2, w3)
        s2 = _key_products(g2, j0, j1, j2, j3, w0, w1, w2, w3)
        s3 = _key_products(g3, j0, j1, j2, j3, w0, w1, w2, w3)
        value = tl.where(inside, m0 * s0 + m1 * s1 + m2 * s2 + m3 * s3, TAKEN)
        best_value = tl.max(value, axis=0)
        if best_value > best_seed:
            best_seed = best_value
            chosen_one = p == tl.argmax(value, axis=0)
            t0 = tl.sum(tl.where(chosen_one, s0, 0.0), axis=0)
            t1 = tl.sum(tl.where(chosen_one, s1, 0.0), axis=0)
            t2 = tl.sum(tl.where(chosen_one, s2, 0.0), axis=0)
            t3 = tl.sum(tl.where(chosen_one, s3, 0.0), axis=0)
            seed_site = tl.load(k_site + at + tl.argmax(value, axis=0))
    threshold0 = _corner_mix(omega, 0, t0, t1, t2, t3)
    threshold1 = _corner_mix(omega, 1, t0, t1, t2, t3)
    threshold2 = _corner_mix(omega, 2, t0, t1, t2, t3)
    threshold3 = _corner_mix(omega, 3, t0, t1, t2, t3)
    slack = tolerance / 2 / tl.load(q_block_stretch + block * 2)

    a = q_coefficient + (start + q) * 4
    a0 = tl.load(a, mask=member, other=0)
    a1 = tl.load(a + 1, mask=member, other=0)
    a2 = tl.load(a + 2, mask=member, other=0)
    a3 = tl.load(a + 3, mask=member, other=0)
    top = a0 * t0 + a1 * t1 + a2 * t2 + a3 * t3
    best = top
    chosen = tl.where(member, seed_site, -1)
    furthest = seed_site  # the highest row chosen so far; what can only tie is of no use beyond it

    for chunk in range(0, cells, CELLS):
        cell = chunk + lane
        inside = cell < cells
        v0 = tl.load(l0 + cell, mask=inside, other=0)
        v1 = tl.load(l1 + cell, mask=inside, other=0)
        v2 = tl.load(l2 + cell, mask=inside, other=0)
        v3 = tl.load(l3 + cell, mask=inside, other=0)
        excess = tl.maximum(
            tl.maximum(
                _corner_mix(omega, 0, v0, v1, v2, v3) - threshold0,
                _corner_mix(omega, 1, v0, v1, v2, v3) - threshold1,
            ),
            tl.maximum(
                _corner_mix(omega, 2, v0, v1, v2, v3) - threshold2,
                _corner_mix(omega, 3, v0, v1, v2, v3) - threshold3,
            ),
        )
        excess = tl.where(inside, excess, TAKEN)
        first_site = tl.load(k_cell_first + cell, mask=inside, other=0)
        keep = (excess > -slack) & ((excess > slack) | (first_site < furthest))
        here = tl.min(tl.where(keep, lane, CELLS), axis=0)
        while here < CELLS:
            this = chunk + here
            j0 = tl.load(k_cell_nodes + this * 4)
            j1 = tl.load(k_cell_nodes + this * 4 + 1)
            j2 = tl.load(k_cell_nodes + this * 4 + 2)
            j3 = tl.load(k_cell_nodes + this * 4 + 3)
            for other in range(tl.load(k_cell_blocks + this), tl.load(k_cell_blocks + this + 1)):
                # The bound of this block of keys, from the products of its corners.
                y = tl.arange(0, 4)
                corner = k_block_corners + other * 16 + y * 4
                c0 = tl.load(corner)
                c1 = tl.load(corner + 1)
                c2 = tl.load(corner + 2)
                c3 = tl.load(corner + 3)
                e0 = _key_products(g0, j0, j1, j2, j3, c0, c1, c2, c3)
                e1 = _key_products(g1, j0, j1, j2, j3, c0, c1, c2, c3)
                e2 = _key_products(g2, j0, j1, j2, j3, c0, c1, c2, c3)
                e3 = _key_products(g3, j0, j1, j2, j3, c0, c1, c2, c3)
                high = tl.load(k_block_stretch + other * 2)
                low = tl.load(k_block_stretch + other * 2 + 1)
                b0 = tl.max(_corner_mix(omega, 0, e0, e1, e2, e3), axis=0)
                b1 = tl.max(_corner_mix(omega, 1, e0, e1, e2, e3), axis=0)
                b2 = tl.max(_corner_mix(omega, 2, e0, e1, e2, e3), axis=0)
                b3 = tl.max(_corner_mix(omega, 3, e0, e1, e2, e3), axis=0)
                b0 = b0 * tl.where(b0 > 0, high, low) - threshold0
                b1 = b1 * tl.where(b1 > 0, high, low) - threshold1
                b2 = b2 * tl.where(b2 > 0, high, low) - threshold2
                b3 = b3 * tl.where(b3 > 0, high, low) - threshold3
                bound = tl.maximum(tl.maximum(b0, b1), tl.maximum(b2, b3))
                lowest = tl.load(k_block_first + other)
                if (bound > -slack) & ((bound > slack) | (lowest < furthest)):
                    at = tl.load(k_block_sites + other)
                    real = at + p < tl.load(k_block_sites + other + 1)
                    w = k_coefficient + (at + p) * 4
                    w0 = tl.load(w, mask=real, other=0)
                    w1 = tl.load(w + 1, mask=real, other=0)
                    w2 = tl.load(w + 2, mask=real, other=0)
                    w3 = tl.load(w + 3, mask=real, other=0)
                    s0 = _key_products(g0, j0, j1, j2, j3, w0, w1, w2, w3)
                    s1 = _key_products(g1, j0, j1, j2, j3, w0, w1, w2, w3)
                    s2 = _key_products(g2, j0, j1, j2, j3, w0, w1, w2, w3)
                    s3 = _key_products(g3, j0, j1, j2, j3, w0, w1, w2, w3)
                    score = (
                        a0[:, None] * s0[None, :]
                        + a1[:, None] * s1[None, :]
                        + a2[:, None] * s2[None, :]
                        + a3[:, None] * s3[None, :]
                    )
                    score = tl.where(real[None, :], score, NEVER)
                    top = tl.maximum(top, tl.max(score, axis=1))
                    enough = top - tolerance
                    site = tl.load(k_site + at + p, mask=real, other=FAR)
                    good = score >= enough[:, None]
                    candidate = tl.min(tl.where(good, site[None, :], FAR), axis=1)
                    take = member & (candidate < FAR) & ((best < enough) | (candidate < chosen))
                    value = tl.max(
                        tl.where(good & (site[None, :] == candidate[:, None]), score, NEVER), axis=1
                    )
                    best = tl.where(take, value, best)
                    chosen = tl.where(take, candidate, chosen)
                    furthest = tl.max(chosen, axis=0)
            keep = keep & (lane > here) & ((excess > slack) | (first_site < furthest))
            here = tl.min(tl.where(keep, lane, CELLS), axis=0)

    row = tl.load(q_site + start + q, mask=member, other=0)
    tl.store(index + row, chosen, mask=member)
    tl.store(similarity + row, tl.minimum(tl.maximum(best, -1.0), 1.0), mask=member)

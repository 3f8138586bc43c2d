# SPDX-License-Identifier: MIT
"""The definition once more, by brute force, and how far a right result may be from it.

docs/definition.md read literally: which key every query sees, axis by axis (sections 2,
3, 13), one dense softmax (6), its gradients (7), the pair (8), merging (9), and the
error bounds (12).  Shares no code with the library, evaluates in extended precision,
and keeps all pairs of queries and keys in memory: for small shapes.

Names of dense arrays: [b, h, q, k] with q and k flat tokens, additional tokens behind
the keys; k has query's heads already.
"""

from itertools import product
from math import prod

import numpy as np

REAL = np.longdouble
UNIT = {
    "float64": 2.0**-53,
    "float32": 2.0**-24,
    "float16": 2.0**-11,
    "bfloat16": 2.0**-8,
}
SMALLEST = {
    "float64": 2.0**-1074,
    "float32": 2.0**-149,
    "float16": 2.0**-24,
    "bfloat16": 2.0**-133,
}


def span(token, length, window, stride, dilation, causal):
    """The tokens that a query token sees on an axis, and the slot of the first."""
    residue, g = token % dilation, token // dilation
    n = (length - residue + dilation - 1) // dilation
    block = stride * (g // stride)
    if causal:
        leader = min(block + stride - 1, n - 1)
        begin, end = max(leader - window + 1, 0), g + 1
    else:
        leader = min(block + stride // 2, n - 1)
        begin = min(max(leader - window // 2, 0), n - window)
        end = begin + window
    return [residue + t * dilation for t in range(begin, end)]


def axis_table(n_query, n_key, length, window, stride, dilation, causal, q0, k0):
    """Per (query, key) of an axis: visible, slot of the window, index of the bias."""
    visible = np.zeros((n_query, n_key), bool)
    slot = np.zeros((n_query, n_key), int)
    bias = np.zeros((n_query, n_key), int)
    for i in range(n_query):
        seen = span(q0 + i, length, window, stride, dilation, causal)
        for t, token in enumerate(seen):
            j = token - k0
            if 0 <= j < n_key:
                visible[i, j] = True
                slot[i, j] = t
                bias[i, j] = (token - (q0 + i)) // dilation + window - 1
    return visible, slot, bias


class Grid:
    """Who sees whom: the tables of the axes, combined over flat tokens."""

    def __init__(
        self,
        queries,
        keys,
        kernel_size,
        stride=1,
        dilation=1,
        is_causal=0,
        grid_length=None,
        query_begin=0,
        key_begin=0,
    ):
        rank = len(queries)

        def each(value):
            return (value,) * rank if np.ndim(value) == 0 else tuple(value)

        self.queries, self.keys, self.window = queries, keys, each(kernel_size)
        lengths = queries if grid_length is None else each(grid_length)
        tables = [
            axis_table(*row)
            for row in zip(
                queries,
                keys,
                lengths,
                self.window,
                each(stride),
                each(dilation),
                each(is_causal),
                each(query_begin),
                each(key_begin),
            )
        ]
        self.visible = np.ones((1, 1), bool)
        self.slot = np.zeros((1, 1), int)
        self.bias = np.zeros((1, 1), int)
        for (visible, slot, bias), w in zip(tables, self.window):
            self.visible = self._outer(self.visible, visible, np.logical_and)
            self.slot = self._outer(self.slot * w, slot, np.add)
            self.bias = self._outer(self.bias * (2 * w - 1), bias, np.add)
        self.slots = prod(self.window)

    @staticmethod
    def _outer(old, new, combine):
        (a, b), (c, d) = old.shape, new.shape
        return combine(old[:, None, :, None], new[None, :, None, :]).reshape(
            a * c, b * d
        )


def flat(tokens, group=1):
    """[b, axes..., h, d] as [b, h, token, d] in extended precision, heads repeated."""
    t = np.asarray(tokens, REAL)
    t = t.reshape(t.shape[0], -1, *t.shape[-2:]).transpose(0, 2, 1, 3)
    return np.repeat(t, group, axis=1)


def unflat(dense, shape, group=1):
    """The inverse of flat(); heads of a group are added up."""
    b, h, n, d = dense.shape
    dense = dense.reshape(b, h // group, group, n, d).sum(2)
    return dense.transpose(0, 2, 1, 3).reshape(shape)


class Attention:
    """Forward and backward of one problem, with the bounds of section 12.

    Results are dictionaries from a tensor's name to (value, bound), both of the
    tensor's shape.  `dtype` is the storage type whose roundings the bounds allow.
    """

    def __init__(
        self,
        grid,
        query,
        key,
        value,
        dtype,
        scale=None,
        bias=None,
        additional_keys=None,
        additional_values=None,
    ):
        self.grid, self.dtype = grid, dtype
        self.shapes = {"query": query.shape, "key": key.shape, "value": value.shape}
        self.group = query.shape[-2] // key.shape[-2]
        self.io, self.eta_io = UNIT[dtype], SMALLEST[dtype]
        accumulator = "float64" if dtype == "float64" else "float32"
        self.u, self.eta = UNIT[accumulator], SMALLEST[accumulator]
        self.scale = REAL(query.shape[-1] ** -0.5 if scale is None else scale)
        self.q = flat(query)
        self.k, self.v = flat(key, self.group), flat(value, self.group)
        self.extras = 0
        if additional_keys is not None:
            self.extras = additional_keys.shape[1]
            self.shapes["additional_keys"] = additional_keys.shape
            self.shapes["additional_values"] = additional_values.shape
            self.k = np.concatenate([self.k, flat(additional_keys, self.group)], 2)
            self.v = np.concatenate([self.v, flat(additional_values, self.group)], 2)
        seen = np.ones((self.q.shape[2], self.extras), bool)
        self.visible = np.concatenate([grid.visible, seen], 1)
        self.has_bias = bias is not None
        added = np.zeros((self.q.shape[1], *self.visible.shape), REAL)
        if bias is not None:
            self.shapes["bias"] = bias.shape
            rows = np.asarray(bias, REAL).reshape(bias.shape[0], -1)
            added[:, :, : grid.visible.shape[1]] = rows[:, grid.bias]
        self.logit = self.scale * (self.q @ self.k.transpose(0, 1, 3, 2)) + added
        self._softmax()

    def g(self, n):
        return (6 * np.sqrt(n) + 8) * self.u

    def _softmax(self):
        masked = np.where(self.visible, self.logit, -np.inf)
        top = masked.max(-1, keepdims=True)
        top = np.where(np.isinf(top), 0, top)
        e = np.exp(masked - top)
        total = e.sum(-1, keepdims=True)
        with np.errstate(divide="ignore"):
            self.lse = (np.log(total) + top)[..., 0]
        self.p = e / np.where(total == 0, 1, total)
        self.out = self.p @ self.v
        # Section 12: error of a logit, of a row's lse, of a weight relative to it.
        absolute = np.abs(self.q) @ np.abs(self.k.transpose(0, 1, 3, 2))
        e_ij = self.g(self.q.shape[-1]) * abs(self.scale) * absolute
        self.e_logit = e_ij + 6 * self.u * np.abs(self.logit)
        self.n = self.visible.sum(-1)[None, None]
        self.e_row = (self.p * self.e_logit).sum(-1)
        gn = self.g(self.n)[..., None]
        self.r = np.expm1(self.e_logit + self.e_row[..., None]) + gn
        self.e_out = (
            (self.p * (self.r + gn)) @ np.abs(self.v)
            + self.io * np.abs(self.out)
            + self.eta_io
            + (self.n[..., None] + 4) * self.eta
            + self.visible.astype(REAL) @ (2.0**-126 * np.abs(self.v))
        )
        finite = np.where(np.isinf(self.lse), 0, self.lse)
        self.e_lse = self.e_row + self.g(self.n) + 4 * self.u * np.abs(finite) + self.u

    def forward(self):
        shape = (*self.shapes["query"][:-1], self.v.shape[-1])
        return {
            "out": (unflat(self.out, shape), unflat(self.e_out, shape)),
            "lse": (self._rows(self.lse), self._rows(self.e_lse)),
        }

    def _rows(self, rows):
        return unflat(rows[..., None], self.shapes["query"][:-1])

    def backward(self, grad_out, grad_lse=None):
        """Gradients for the out and lse of forward(), rounded as they are stored."""
        do = flat(grad_out)
        dl = 0 if grad_lse is None else flat(np.asarray(grad_lse)[..., None])
        dp = do @ self.v.transpose(0, 1, 3, 2)
        delta = (do * self.out).sum(-1, keepdims=True)
        ds = self.p * (dp - delta + dl)
        g_dv = self.g(self.v.shape[-1])
        e_dp = g_dv * (np.abs(do) @ np.abs(self.v.transpose(0, 1, 3, 2)))
        e_delta = (g_dv * np.abs(do * self.out) + np.abs(do) * self.e_out).sum(
            -1, keepdims=True
        )
        e_ds = np.abs(ds) * (self.r + 2 * self.u) + self.p * (
            e_dp + e_delta + self.u * (np.abs(dp) + np.abs(delta) + np.abs(dl))
        )
        results = {"grad_query": self._product(self.scale, ds, e_ds, self.k, "query")}
        back, e_back = ds.swapaxes(2, 3), e_ds.swapaxes(2, 3)
        keys = self._product(self.scale, back, e_back, self.q, None)
        e_p = self.p * self.r
        values = self._product(1, self.p.swapaxes(2, 3), e_p.swapaxes(2, 3), do, None)
        n = self.grid.visible.shape[1]
        for name, both in (("key", keys), ("value", values)):
            results["grad_" + name] = self._shaped(both, slice(0, n), name)
            if self.extras:
                extra = "additional_" + name + "s"
                results["grad_" + extra] = self._shaped(both, slice(n, None), extra)
        if self.has_bias:
            results["grad_bias"] = self._bias(ds[..., :n], e_ds[..., :n])
        return results

    def _product(self, scale, weight, e_weight, vector, name):
        """scale sum_j weight_ij vector_j with its error, heads of a group apart."""
        size = np.abs(scale) * (np.abs(weight) @ np.abs(vector))
        terms = weight.shape[-1] * self.group
        error = np.abs(scale) * (e_weight @ np.abs(vector)) + self.g(terms) * size
        both = scale * (weight @ vector), error
        if name is None:
            return both
        value = unflat(both[0], self.shapes[name])
        return value, unflat(both[1], self.shapes[name]) + self._stored(value)

    def _stored(self, value):
        return self.io * np.abs(value) + self.eta_io + 64 * self.eta

    def _shaped(self, both, tokens, name):
        value, error = (
            unflat(x[:, :, tokens], self.shapes[name], self.group) for x in both
        )
        return value, error + self._stored(value)

    def _bias(self, ds, e_ds):
        shape = self.shapes["bias"]
        value, error, size = (
            np.zeros((shape[0], prod(shape[1:])), REAL) for _ in range(3)
        )
        count = np.zeros(value.shape[1])
        seen = self.grid.visible
        at = self.grid.bias[seen]
        np.add.at(count, at, ds.shape[0])
        for h in range(shape[0]):
            for b in range(ds.shape[0]):
                np.add.at(value[h], at, ds[b, h][seen])
                np.add.at(error[h], at, e_ds[b, h][seen])
                np.add.at(size[h], at, np.abs(ds[b, h][seen]))
        error += self.g(count) * size + self.u * np.abs(value) + 64 * self.eta
        return value.reshape(shape), error.reshape(shape)

    # ---- the pair
    # ----------------------------------------------------------------------

    def slots(self, dense, empty):
        """[b, h, q, k] as attn [b, axes..., heads, slots (+ extras)]."""
        b, h, q, _ = dense.shape
        n = self.grid.visible.shape[1]
        attn = np.full((b, h, q, self.grid.slots + self.extras), empty, REAL)
        for i, j in product(range(q), range(n)):
            if self.grid.visible[i, j]:
                attn[:, :, i, self.grid.slot[i, j]] = dense[:, :, i, j]
        attn[..., self.grid.slots :] = dense[..., n:]
        return unflat(attn, (*self.shapes["query"][:-1], attn.shape[-1]))

    def dense(self, attn):
        """The inverse of slots(), 0 where nothing is seen."""
        a = flat(attn)
        n = self.grid.visible.shape[1]
        rows = np.zeros((*a.shape[:3], n + self.extras), REAL)
        for i, j in product(range(a.shape[2]), range(n)):
            if self.grid.visible[i, j]:
                rows[:, :, i, j] = a[:, :, i, self.grid.slot[i, j]]
        rows[..., n:] = a[..., self.grid.slots :]
        return rows

    def qk(self):
        error = self.e_logit + self._stored(self.logit)
        return {"attn": (self.slots(self.logit, -np.inf), self.slots(error, 0))}

    def qk_backward(self, grad_attn):
        ds = self.dense(grad_attn)
        n, zero = self.grid.visible.shape[1], np.zeros_like(ds)
        results = {"grad_query": self._product(self.scale, ds, zero, self.k, "query")}
        keys = self._product(
            self.scale, ds.swapaxes(2, 3), zero.swapaxes(2, 3), self.q, None
        )
        results["grad_key"] = self._shaped(keys, slice(0, n), "key")
        if self.extras:
            results["grad_additional_keys"] = self._shaped(
                keys, slice(n, None), "additional_keys"
            )
        if self.has_bias:
            results["grad_bias"] = self._bias(ds[..., :n], zero[..., :n])
        return results

    def av(self, attn):
        w = self.dense(attn)
        shape = (*self.shapes["query"][:-1], self.v.shape[-1])
        value = unflat(w @ self.v, shape)
        error = self.g(w.shape[-1]) * unflat(np.abs(w) @ np.abs(self.v), shape)
        return {"out": (value, error + self._stored(value))}

    def av_backward(self, attn, grad_out):
        w, do = self.dense(attn), flat(grad_out)
        n, back = self.grid.visible.shape[1], w.swapaxes(2, 3)
        values = self._product(1, back, np.zeros_like(back), do, None)
        results = {"grad_value": self._shaped(values, slice(0, n), "value")}
        if self.extras:
            results["grad_additional_values"] = self._shaped(
                values, slice(n, None), "additional_values"
            )
        dp = do @ self.v.transpose(0, 1, 3, 2)
        size = np.abs(do) @ np.abs(self.v.transpose(0, 1, 3, 2))
        error = self.g(do.shape[-1]) * size + self._stored(dp)
        results["grad_attn"] = self.slots(dp, 0), self.slots(error, 0)
        return results


def worst(result, expected):
    """Largest error over bound; inf where NaN or an infinity is not in its place."""
    value, bound = expected
    got = np.asarray(result).astype(REAL)
    if got.shape != value.shape:
        return np.inf
    finite = np.isfinite(value)
    if (np.isfinite(got) != finite).any() or (got[~finite] != value[~finite]).any():
        return np.inf
    if not finite.any():
        return 0.0
    error, bound = np.abs(got[finite] - value[finite]), bound[finite]
    # Where the bound is 0 the value must be exact.
    ratio = np.divide(error, bound, out=np.full_like(error, np.inf), where=bound > 0)
    return float(np.where(error == 0, 0, ratio).max())

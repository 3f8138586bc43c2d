# SPDX-License-Identifier: MIT
"""Problem text (docs/problem-text.md): parse a line, make its data, call natten.

The same lines run in C, Julia and R; results leave as the bytes that all four compare.
"""

import re
from math import prod

import numpy as np
import pytest

import natten

NAMES = {"fp64": "float64", "fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
ROLES = {
    "query": 0,
    "key": 1,
    "value": 2,
    "bias": 3,
    "additional_keys": 4,
    "additional_values": 5,
    "attn": 6,
    "grad_attn": 9,
    "grad_out": 10,
    "grad_lse": 11,
}
NUMBERS = {
    "s": "stride",
    "e": "dilation",
    "g": "grid_length",
    "q": "query_begin",
    "k": "key_begin",
}


def element_type(name):
    """NumPy's type of that name; skips the test where bfloat16 is not to be had."""
    if name == "bfloat16":
        return pytest.importorskip("ml_dtypes").bfloat16
    return np.dtype(name)


def _numbers(text):
    return tuple(int(word) for word in re.split("[x:]", text))


class Problem:
    """One line: its shapes, its data, and the arguments of natten's functions."""

    def __init__(self, text):
        words = text.split()
        self.text, self.operation, self.dtype = text, words[0], NAMES[words[1]]
        self.accumulator = np.float64 if words[1] == "fp64" else np.float32
        self.options, self.extras, self.seed = {}, 0, 1
        self.has_bias = self.has_grad_lse = False
        self.keys = None
        for word in words[2:]:
            self._take(word)
        self.keys = self.keys or self.lengths

    def _take(self, word):
        name, rest = re.fullmatch(r"([a-z]*)(.*)", word).groups()
        if name == "":
            self.lengths = _numbers(rest)
        elif name == "b":
            self.batch = int(rest)
        elif name == "h":
            self.heads, self.heads_kv = (_numbers(rest) * 2)[:2]
        elif name == "d":
            self.dim, self.dim_v = (_numbers(rest) * 2)[:2]
        elif name == "w":
            self.window = _numbers(rest)
        elif name in NUMBERS:
            self.options[NUMBERS[name]] = _numbers(rest)
        elif name == "n":
            self.keys = _numbers(rest)
        elif name == "causal":
            self.options["is_causal"] = tuple(int(digit) for digit in rest)
        elif name == "m":
            self.extras = int(rest)
        elif name == "scale":
            self.options["scale"] = float(rest)
        elif name == "seed":
            self.seed = int(rest)
        elif name == "bias":
            self.has_bias = True
        elif name == "dlse":
            self.has_grad_lse = True
        elif word == "tf32":
            pass  # a permission that a CPU makes no use of
        else:
            raise ValueError(f"{word!r} in {self.text!r}")

    def shape(self, role):
        tokens = self.batch, *self.lengths, self.heads
        keys = self.batch, *self.keys, self.heads_kv
        return {
            "query": (*tokens, self.dim),
            "key": (*keys, self.dim),
            "value": (*keys, self.dim_v),
            "bias": (self.heads, *(2 * w - 1 for w in self.window)),
            "additional_keys": (self.batch, self.extras, self.heads_kv, self.dim),
            "additional_values": (self.batch, self.extras, self.heads_kv, self.dim_v),
            "attn": (*tokens, prod(self.window) + self.extras),
            "grad_attn": (*tokens, prod(self.window) + self.extras),
            "grad_out": (*tokens, self.dim_v),
            "grad_lse": tokens,
        }[role]

    def data(self, role):
        """The tensor of a role, from the generator that four languages share."""
        present = {
            "bias": self.has_bias,
            "grad_lse": self.has_grad_lse,
            "additional_keys": self.extras,
            "additional_values": self.extras,
        }
        if not present.get(role, True):
            return None
        shape = self.shape(role)
        x = (self.seed * 1000003 + ROLES[role] * 7919 + 1) % 2147483647 or 1
        values = np.empty(prod(shape))
        for i in range(values.size):
            x = 48271 * x % 2147483647
            values[i] = (x // 8388608 - 128) / 64
        own = role in ("bias", "grad_lse")
        return values.reshape(shape).astype(
            self.accumulator if own else element_type(self.dtype)
        )

    def run(self, **more):
        """All results, in the order in which their bytes are compared."""
        return getattr(self, "_" + self.operation)({**self.options, **more})

    def _fused(self):
        q, k, v = (self.data(role) for role in ("query", "key", "value"))
        given = {
            role: self.data(role)
            for role in ("bias", "additional_keys", "additional_values")
        }
        return q, k, v, given

    def _fwd(self, options):
        q, k, v, given = self._fused()
        na = (natten.na1d, natten.na2d, natten.na3d)[len(self.lengths) - 1]
        return na(q, k, v, self.window, return_lse=True, **given, **options)

    def _bwd(self, options):
        q, k, v, given = self._fused()
        out, lse = self._fwd(options)
        gradients = natten.na_backward(
            q,
            k,
            v,
            self.data("grad_out"),
            self.window,
            out=out,
            lse=lse,
            grad_lse=self.data("grad_lse"),
            **given,
            **options,
        )
        return (out, lse, *(g for g in gradients if g is not None))

    def _qk(self, options):
        return (
            natten.na_qk(
                self.data("query"),
                self.data("key"),
                self.window,
                bias=self.data("bias"),
                additional_keys=self.data("additional_keys"),
                **options,
            ),
        )

    def _qkbwd(self, options):
        gradients = natten.na_qk_backward(
            self.data("query"),
            self.data("key"),
            self.data("grad_attn"),
            self.window,
            bias=self.data("bias"),
            additional_keys=self.data("additional_keys"),
            **options,
        )
        return tuple(g for g in gradients if g is not None)

    def _av(self, options):
        return (
            natten.na_av(
                self.data("attn"),
                self.data("value"),
                self.window,
                additional_values=self.data("additional_values"),
                **options,
            ),
        )

    def _avbwd(self, options):
        gradients = natten.na_av_backward(
            self.data("attn"),
            self.data("value"),
            self.data("grad_out"),
            self.window,
            additional_values=self.data("additional_values"),
            **options,
        )
        return tuple(g for g in gradients if g is not None)

# SPDX-License-Identifier: MIT
"""Non-local means on a grid of any number of axes, as one neighborhood attention.

Each element becomes the mean of the elements in the window around it, weighted by how
alike the patches around them are: exp(-|p_i - p_j|^2 / h^2).  That is a softmax of
2 <p_i, p_j> / h^2 - |p_j|^2 / h^2, since what depends on i alone cancels.  Noise puts
2 sigma^2 per number of a patch between any two of them, but not between one and itself;
the relative position bias takes that off the middle of the window.  The examples that
smooth a sequence, a picture and a video share this file.
"""

import numpy as np

import natten


def patches(signal, radius):
    """[axes..., numbers of the patch around each element], from [axes..., channels]."""
    rank = signal.ndim - 1
    size = 2 * radius + 1
    padded = np.pad(signal, [(radius, radius)] * rank + [(0, 0)], mode="reflect")
    views = np.lib.stride_tricks.sliding_window_view(
        padded, (size,) * rank, axis=tuple(range(rank))
    )
    return views.reshape(*signal.shape[:-1], -1)


def smooth(signal, sigma, window, radius, strength, is_causal=False):
    """The signal [axes..., channels] without noise of standard deviation sigma.

    window: elements per axis that a mean runs over; radius: of the patches; strength:
    h^2 in units of sigma^2 per number of a patch.
    """
    rank = signal.ndim - 1
    signal = signal.astype("float32")
    alike = patches(signal - signal.mean(), radius)
    numbers = alike.shape[-1]
    h2 = np.float32(strength * sigma**2 * numbers)
    ones = np.ones_like(alike[..., :1])
    query = np.concatenate([2 * alike / h2, ones], -1)
    key = np.concatenate([alike, -np.square(alike).sum(-1, keepdims=True) / h2], -1)
    window = np.broadcast_to(window, rank)
    bias = np.zeros([1, *(2 * k - 1 for k in window)], "float32")
    bias[(0, *(k - 1 for k in window))] = -2 * sigma**2 * numbers / h2
    attention = (natten.na1d, natten.na2d, natten.na3d)[rank - 1]
    # [batch 1, axes..., heads 1, numbers].
    query, key, value = (x[None, ..., None, :] for x in (query, key, signal))
    out = attention(
        query, key, value, tuple(window), scale=1.0, is_causal=is_causal, bias=bias
    )
    return out[0, ..., 0, :]


def psnr(estimate, truth):
    """Peak signal to noise ratio in dB, of numbers between 0 and 1."""
    return -10 * np.log10(np.square(np.clip(estimate, 0, 1) - truth).mean())

# SPDX-License-Identifier: MIT
#
# The definition (docs/definition.md) once more, in plain R and as directly as it can be
# written: what the tests compare the library with.  Arrays and per-axis values are in
# R's order, W first.  Independent of the library: nothing here calls it.

# Sections 2 and 3: the keys that token i of an axis sees, as a function of nothing but
# the axis.  list(position of the span's begin, number of keys, residue class).
axis_span <- function(i, length, kernel, stride, dilation, causal) {
  class <- i %% dilation
  g <- i %/% dilation
  n <- ceiling((length - class) / dilation)
  left <- kernel %/% 2
  if (causal) {
    leader <- min(stride * (g %/% stride) + stride - 1, n - 1)
    begin <- max(leader - kernel + 1, 0)
    end <- g + 1
  } else {
    leader <- min(stride * (g %/% stride) + stride %/% 2, n - 1)
    begin <- min(max(leader - left, 0), n - kernel)
    end <- begin + kernel
  }
  list(begin = begin, count = end - begin, class = class)
}

# For each query token of an axis (columns) and each slot of its window (rows): the
# key's index in the part that is given, and the index into the bias; NA for no key.
axis_tables <- function(queries, keys, length, kernel, stride, dilation, causal,
                        query_begin, key_begin) {
  key <- bias <- matrix(NA_integer_, kernel, queries)
  for (i in seq_len(queries)) {
    token <- query_begin + i - 1
    span <- axis_span(token, length, kernel, stride, dilation, causal)
    for (t in seq_len(span$count)) {
      seen <- span$class + (span$begin + t - 1) * dilation
      if (seen >= key_begin && seen < key_begin + keys) {
        key[t, i] <- seen - key_begin + 1
        bias[t, i] <- (seen - token) %/% dilation + kernel
      }
    }
  }
  list(key = key, bias = bias)
}

# Tables of several axes as one, over all slots and all tokens; the first is fastest.
all_axes <- function(tables, sizes) {
  index <- tables[[1]]
  size <- sizes[1]
  for (a in seq_along(tables)[-1]) {
    more <- tables[[a]]
    rows <- nrow(index)
    columns <- ncol(index)
    index <- index[rep(seq_len(rows), nrow(more)), rep(seq_len(columns), ncol(more)),
      drop = FALSE
    ] + size * (more[rep(seq_len(nrow(more)), each = rows),
      rep(seq_len(ncol(more)), each = columns),
      drop = FALSE
    ] - 1)
    size <- size * sizes[a]
  }
  index
}

# Everything about who sees whom; `query` and `key` only give their shapes.
visibility <- function(query, key, kernel_size, stride = 1, dilation = 1,
                       is_causal = FALSE, grid_length = NULL, query_begin = NULL,
                       key_begin = NULL) {
  rank <- length(dim(query)) - 3
  axes <- 2 + seq_len(rank)
  each <- function(x, default) rep_len(if (is.null(x)) default else x, rank)
  tables <- Map(axis_tables,
    queries = dim(query)[axes], keys = dim(key)[axes],
    length = each(grid_length, dim(query)[axes]), kernel = each(kernel_size),
    stride = each(stride), dilation = each(dilation), causal = each(is_causal),
    query_begin = each(query_begin, 0), key_begin = each(key_begin, 0)
  )
  list(
    key = all_axes(lapply(tables, `[[`, "key"), dim(key)[axes]),
    bias = all_axes(lapply(tables, `[[`, "bias"), 2 * each(kernel_size) - 1)
  )
}

# c(d, heads, W, H, batch) as c(d, heads, tokens, batch).
flat <- function(x) {
  d <- dim(x)
  n <- length(d)
  array(x, c(d[1:2], prod(d[seq(3, n - 1, length.out = n - 3)]), d[n]))
}

# Section 8: the logits, c(slots + extras, heads, W, H, batch).
oracle_qk <- function(query, key, ..., scale = 1, bias = NULL, additional_keys = NULL) {
  seen <- visibility(query, key, ...)
  q <- flat(query)
  k <- flat(key)
  group <- dim(q)[2] / dim(k)[2]
  extras <- if (is.null(additional_keys)) 0 else dim(additional_keys)[3]
  slots <- nrow(seen$key)
  logits <- array(-Inf, c(slots + extras, dim(q)[-1]))
  for (b in seq_len(dim(q)[4])) {
    for (i in seq_len(dim(q)[3])) {
      there <- which(!is.na(seen$key[, i]))
      for (h in seq_len(dim(q)[2])) {
        kv <- (h - 1) %/% group + 1
        for (t in there) {
          dot <- sum(q[, h, i, b] * k[, kv, seen$key[t, i], b])
          logits[t, h, i, b] <- scale * dot
          if (!is.null(bias)) {
            of_head <- length(bias) / dim(q)[2] * (h - 1)
            logits[t, h, i, b] <- logits[t, h, i, b] + bias[of_head + seen$bias[t, i]]
          }
        }
        for (m in seq_len(extras)) {
          logits[slots + m, h, i, b] <-
            scale * sum(q[, h, i, b] * additional_keys[, kv, m, b])
        }
      }
    }
  }
  array(logits, c(slots + extras, dim(query)[-1]))
}

# Section 8: weights, shaped like the logits, times values.
oracle_av <- function(attn, value, ..., additional_values = NULL) {
  seen <- visibility(attn, value, ...)
  w <- flat(attn)
  v <- flat(value)
  group <- dim(w)[2] / dim(v)[2]
  slots <- nrow(seen$key)
  out <- array(0, c(dim(v)[1], dim(w)[-1]))
  for (b in seq_len(dim(w)[4])) {
    for (i in seq_len(dim(w)[3])) {
      there <- which(!is.na(seen$key[, i]))
      for (h in seq_len(dim(w)[2])) {
        kv <- (h - 1) %/% group + 1
        sum <- numeric(dim(v)[1])
        for (t in there) {
          sum <- sum + w[t, h, i, b] * v[, kv, seen$key[t, i], b]
        }
        for (m in seq_len(dim(w)[1] - slots)) {
          sum <- sum + w[slots + m, h, i, b] * additional_values[, kv, m, b]
        }
        out[, h, i, b] <- sum
      }
    }
  }
  array(out, c(dim(v)[1], dim(attn)[-1]))
}

# Section 6: list(out, lse).
oracle <- function(query, key, value, ..., scale = NULL, bias = NULL,
                   additional_keys = NULL, additional_values = NULL) {
  if (is.null(scale)) {
    scale <- 1 / sqrt(dim(query)[1])
  }
  logits <- oracle_qk(query, key, ...,
    scale = scale, bias = bias, additional_keys = additional_keys
  )
  lse <- apply(logits, seq_along(dim(logits))[-1], function(s) {
    top <- max(s)
    if (top == -Inf) -Inf else top + log(sum(exp(s - top)))
  })
  lse <- array(lse, dim(query)[-1])
  weights <- exp(logits - rep(lse, each = dim(logits)[1]))
  weights[logits == -Inf] <- 0
  out <- oracle_av(weights, value, ..., additional_values = additional_values)
  list(out = out, lse = lse)
}

# Largest difference, relative to the largest element; infinities must stand alike.
difference <- function(got, expected) {
  stopifnot(identical(dim(got), dim(expected)))
  finite <- is.finite(expected)
  if (!identical(got[!finite], expected[!finite])) {
    return(Inf)
  }
  if (!any(finite)) {
    return(0)
  }
  max(abs(got[finite] - expected[finite])) / max(1, abs(expected[finite]))
}

expect_close <- function(got, expected, within, info = "result") {
  error <- difference(got, expected)
  testthat::expect(
    isTRUE(error <= within),
    paste(info, sprintf("differs by %g, more than %g", error, within))
  )
}

# Normal numbers as an array, the same for the same seed.
numbers <- function(..., seed) {
  set.seed(seed)
  array(rnorm(prod(...)), c(...))
}

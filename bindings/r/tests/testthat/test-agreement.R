# SPDX-License-Identifier: MIT
#
# The library against the oracle, over random problems of each rank with every option,
# and the order of the axes, which an asymmetric shape with such a window gives away.

# A random legal problem on `rank` axes: list(arrays, options).
random_problem <- function(rank, seed) {
  set.seed(seed)
  primes <- c(3, 5, 7, 11, 13)
  pick <- function(x, n = 1) x[sample.int(length(x), n, replace = TRUE)]
  length <- pick(primes[seq_len(6 - rank)], rank)
  dilation <- pmin(pick(1:2, rank), length)
  kernel <- vapply(length %/% dilation, function(n) pick(seq_len(min(n, 5))), 1)
  stride <- vapply(kernel, function(k) pick(seq_len(k)), 1)
  causal <- pick(c(TRUE, FALSE), rank)
  groups <- pick(1:2)
  kv <- pick(1:2)
  batch <- pick(1:2)
  d <- pick(1:5)
  dv <- pick(1:5)
  m <- pick(0:2)
  q <- length
  k <- length
  options <- list(
    kernel_size = kernel, stride = stride, dilation = dilation, is_causal = causal
  )
  if (pick(c(TRUE, FALSE))) { # a part of the grid
    q <- vapply(length, function(n) pick(seq_len(n)), 1)
    k <- vapply(length, function(n) pick(seq_len(n)), 1)
    options$grid_length <- length
    options$query_begin <- vapply(length - q, function(n) pick(0:n), 1)
    options$key_begin <- vapply(length - k, function(n) pick(0:n), 1)
  }
  normal <- function(...) array(rnorm(prod(...)), c(...))
  arrays <- list(
    query = normal(d, kv * groups, q, batch), key = normal(d, kv, k, batch),
    value = normal(dv, kv, k, batch)
  )
  if (m > 0) {
    arrays$additional_keys <- normal(d, kv, m, batch)
    arrays$additional_values <- normal(dv, kv, m, batch)
  }
  if (pick(c(TRUE, FALSE))) {
    arrays$bias <- normal(2 * kernel - 1, kv * groups)
  }
  list(arrays = arrays, options = options)
}

for (rank in 1:3) {
  test_that(paste("attention is what the definition says, rank", rank), {
    for (seed in 100 * rank + 1:20) {
      p <- random_problem(rank, seed)
      scale <- if (seed %% 2) list(scale = rnorm(1))
      arguments <- c(p$arrays, p$options, scale)
      got <- do.call(neighborhood_attention, c(arguments, return_lse = TRUE))
      expected <- do.call(oracle, arguments)
      expect_close(got$out, expected$out, 1e-13, paste("out, seed", seed))
      expect_close(got$lse, expected$lse, 1e-13, paste("lse, seed", seed))
    }
  })
  test_that(paste("qk and av are what the definition says, rank", rank), {
    for (seed in 100 * rank + 21:40) {
      p <- random_problem(rank, seed)
      keys <- c("query", "key", "bias", "additional_keys")
      arguments <- c(p$arrays[intersect(keys, names(p$arrays))], p$options)
      attn <- do.call(neighborhood_qk, arguments)
      expect_close(attn, do.call(oracle_qk, arguments), 1e-13, paste("qk, seed", seed))
      arguments <- c(
        list(attn = exp(attn)), p$arrays["value"], p$options,
        p$arrays[intersect("additional_values", names(p$arrays))]
      )
      expect_close(
        do.call(neighborhood_av, arguments), do.call(oracle_av, arguments), 1e-13,
        paste("av, seed", seed)
      )
    }
  })
}

test_that("single precision is fp32 in and out", {
  p <- random_problem(2, 7)
  arguments <- c(p$arrays, p$options)
  got <- do.call(neighborhood_attention, c(arguments, precision = "single"))
  error <- difference(got, do.call(oracle, arguments)$out)
  expect_lt(error, 1e-5)
  expect_gt(error, 1e-10)
})

test_that("the first per-axis value is the width's", {
  # A picture 7 wide and 5 high: width is the third dim, as in the table of the pages.
  query <- numbers(3, 2, 7, 5, 1, seed = 1)
  expect_identical(
    dim(neighborhood_qk(query, query, kernel_size = c(7, 2))), c(14L, 2L, 7L, 5L, 1L)
  )
  expect_error(
    neighborhood_qk(query, query, kernel_size = c(2, 7)), "kernel_size\\[height\\]"
  )
  # A window of one row is attention along W alone.
  row <- neighborhood_attention(query, query, query, kernel_size = c(3, 1))
  alone <- neighborhood_attention(
    array(query[, , , 4, 1], c(3, 2, 7, 1)), array(query[, , , 4, 1], c(3, 2, 7, 1)),
    array(query[, , , 4, 1], c(3, 2, 7, 1)),
    kernel_size = 3
  )
  expect_equal(c(row[, , , 4, 1]), c(alone), tolerance = 1e-14)
})

test_that("halves of the keys merge to the whole", {
  query <- numbers(3, 2, 11, 7, 2, seed = 1)
  value <- numbers(5, 2, 11, 7, 2, seed = 2)
  whole <- neighborhood_attention(query, query, value, c(5, 3), return_lse = TRUE)
  part <- function(rows) {
    neighborhood_attention(query, query[, , , rows, ], value[, , , rows, ], c(5, 3),
      grid_length = c(11, 7), key_begin = c(0, rows[1] - 1), return_lse = TRUE
    )
  }
  parts <- list(part(1:3), part(4:7))
  merged <- merge_attentions(lapply(parts, `[[`, "out"), lapply(parts, `[[`, "lse"))
  expect_named(merged, c("out", "lse"))
  expect_close(merged$out, whole$out, 1e-14)
  expect_close(merged$lse, whole$lse, 1e-14)
})

test_that("results are named, and only what was asked for is there", {
  x <- numbers(2, 1, 5, 1, seed = 1)
  expect_true(is.array(neighborhood_attention(x, x, x, 3)))
  expect_named(neighborhood_attention(x, x, x, 3, return_lse = TRUE), c("out", "lse"))
  gradients <- c("grad_query", "grad_key", "grad_value")
  expect_named(neighborhood_attention_backward(x, x, x, x, 3), gradients)
  expect_named(
    neighborhood_attention_backward(x, x, x, x, 3,
      bias = array(0, c(5, 1)), additional_keys = x, additional_values = x
    ),
    c(gradients, "grad_bias", "grad_additional_keys", "grad_additional_values")
  )
})

test_that("a batch of nothing gives nothing", {
  x <- array(0, c(2, 1, 5, 0))
  for (precision in c("double", "single")) {
    expect_identical(neighborhood_attention(x, x, x, 3, precision = precision), x)
  }
})

test_that("plain attention is softmax over all keys, causal from the first of both", {
  set.seed(7)
  normal <- function(...) array(rnorm(prod(...)), c(...))
  for (lengths in list(c(3, 7), c(7, 3), c(5, 5))) {
    query <- normal(4, 2, lengths[1], 1)
    key <- normal(4, 2, lengths[2], 1)
    value <- normal(3, 2, lengths[2], 1)
    bias <- normal(2 * max(lengths) - 1, 2)
    for (causal in c(FALSE, TRUE)) {
      got <- attention(query, key, value,
        is_causal = causal, bias = bias, return_lse = TRUE
      )
      for (head in 1:2) {
        logits <- t(query[, head, , 1]) %*% key[, head, , 1] / 2
        offset <- col(logits) - row(logits)
        logits <- logits + bias[offset + max(lengths), head]
        if (causal) logits[offset > 0] <- -Inf
        expect_equal(got$lse[head, , 1], log(rowSums(exp(logits))))
        weights <- exp(logits) / rowSums(exp(logits))
        expect_equal(got$out[, head, , 1], value[, head, , 1] %*% t(weights))
      }
    }
  }
})

test_that("gradients of plain attention are those of one window over everything", {
  set.seed(8)
  query <- array(rnorm(4 * 2 * 3), c(4, 2, 3, 1))
  key <- array(rnorm(4 * 2 * 5), c(4, 2, 5, 1))
  value <- array(rnorm(3 * 2 * 5), c(3, 2, 5, 1))
  grad_out <- array(rnorm(3 * 2 * 3), c(3, 2, 3, 1))
  expect_identical(
    attention_backward(query, key, value, grad_out),
    neighborhood_attention_backward(query, key, value, grad_out,
      kernel_size = 5, grid_length = 5
    )
  )
})

test_that("plain attention of another rank is refused by name", {
  image <- array(0, c(4, 2, 5, 3, 1))
  expect_error(attention(image, image, image), "query.ndim=5 not in \\[4, 4\\]")
})

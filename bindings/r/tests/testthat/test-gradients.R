# SPDX-License-Identifier: MIT
#
# Every gradient, element by element, against central differences in double.

# Central differences of f, a number, with respect to each element of x.
central <- function(f, x, step = 1e-5) {
  gradient <- x
  for (i in seq_along(x)) {
    moved <- x
    moved[i] <- x[i] + step
    up <- f(moved)
    moved[i] <- x[i] - step
    gradient[i] <- (up - f(moved)) / (2 * step)
  }
  gradient
}

# Compare the gradients in `got` with differences of `loss`, a function of all `inputs`.
expect_central <- function(got, inputs, loss) {
  expect_setequal(names(got), paste0("grad_", names(inputs)))
  for (name in names(inputs)) {
    expected <- central(function(x) {
      inputs[[name]] <- x
      loss(inputs)
    }, inputs[[name]])
    expect_close(got[[paste0("grad_", name)]], expected, 1e-8, name)
  }
}

settings <- list(
  "one axis, dilated" = list(
    q = 7, options = list(kernel_size = 3, dilation = 2)
  ),
  "two axes, causal and strided" = list(
    q = c(5, 3),
    options = list(kernel_size = c(4, 2), stride = c(2, 1), is_causal = c(0, 1))
  ),
  "three axes" = list(
    q = c(3, 2, 2),
    options = list(kernel_size = c(3, 1, 2), is_causal = c(TRUE, FALSE, FALSE))
  ),
  "a part of a grid" = list(
    q = c(3, 2), k = c(4, 3),
    options = list(
      kernel_size = c(3, 3), grid_length = c(7, 5), query_begin = c(2, 1),
      key_begin = c(1, 0)
    )
  )
)

for (name in names(settings)) {
  s <- settings[[name]]
  k <- if (is.null(s$k)) s$q else s$k
  shape <- function(d, heads, lengths, seed) numbers(d, heads, lengths, 2, seed = seed)
  bias <- numbers(2 * rep_len(s$options$kernel_size, length(k)) - 1, 4, seed = 4)
  fused <- list(
    query = shape(3, 4, s$q, 1), key = shape(3, 2, k, 2), value = shape(2, 2, k, 3),
    bias = bias, additional_keys = shape(3, 2, 2, 5),
    additional_values = shape(2, 2, 2, 6)
  )
  grad_out <- shape(2, 4, s$q, 7)
  grad_lse <- numbers(4, s$q, 2, seed = 8)

  test_that(paste("gradients of attention,", name), {
    got <- do.call(neighborhood_attention_backward, c(fused, s$options, list(
      scale = 0.7, grad_out = grad_out, grad_lse = grad_lse
    )))
    expect_central(got, fused, function(inputs) {
      options <- c(s$options, scale = 0.7, return_lse = TRUE)
      r <- do.call(neighborhood_attention, c(inputs, options))
      sum(r$out * grad_out) + sum((r$lse * grad_lse)[is.finite(r$lse)])
    })
  })

  test_that(paste("gradients of qk,", name), {
    inputs <- fused[c("query", "key", "bias", "additional_keys")]
    attn <- do.call(neighborhood_qk, c(inputs, s$options))
    grad_attn <- numbers(dim(attn), seed = 9)
    got <- do.call(
      neighborhood_qk_backward, c(inputs, s$options, list(grad_attn = grad_attn))
    )
    expect_central(got, inputs, function(inputs) {
      attn <- do.call(neighborhood_qk, c(inputs, s$options))
      sum((attn * grad_attn)[is.finite(attn)])
    })
  })

  test_that(paste("gradients of av,", name), {
    slots <- prod(rep_len(s$options$kernel_size, length(k))) + 2
    attn <- list(attn = shape(slots, 4, s$q, 10))
    inputs <- c(attn, fused[c("value", "additional_values")])
    got <- do.call(
      neighborhood_av_backward, c(inputs, s$options, list(grad_out = grad_out))
    )
    expect_central(got, inputs, function(inputs) {
      sum(do.call(neighborhood_av, c(inputs, s$options)) * grad_out)
    })
  })
}

test_that("gradients of merge", {
  outputs <- lapply(1:3, function(seed) numbers(2, 1, 3, 2, seed = seed))
  lses <- lapply(4:6, function(seed) numbers(1, 3, 2, seed = seed))
  lses[[2]][1, 2, 1] <- -Inf
  outputs[[2]][, 1, 2, 1] <- 0
  grad_out <- numbers(2, 1, 3, 2, seed = 7)
  grad_lse <- numbers(1, 3, 2, seed = 8)
  loss <- function(outputs, lses) {
    r <- merge_attentions(outputs, lses)
    sum(r$out * grad_out) + sum(r$lse * grad_lse)
  }
  got <- merge_attentions_backward(outputs, lses, grad_out, grad_lse)
  expect_named(got, c("grad_outputs", "grad_lses"))
  for (n in 1:3) {
    moved <- function(x) loss(replace(outputs, n, list(x)), lses)
    expected <- central(moved, outputs[[n]])
    expect_close(got$grad_outputs[[n]], expected, 1e-8, paste("output", n))
    moved <- function(x) loss(outputs, replace(lses, n, list(x)))
    expected <- central(moved, lses[[n]])
    expected[lses[[n]] == -Inf] <- 0
    expect_close(got$grad_lses[[n]], expected, 1e-8, paste("lse", n))
  }
})

test_that("out and lse may be given or left to be computed", {
  x <- numbers(3, 2, 7, 5, 1, seed = 1)
  forward <- neighborhood_attention(x, x, x, c(3, 5), return_lse = TRUE)
  left <- neighborhood_attention_backward(x, x, x, x, c(3, 5))
  given <- neighborhood_attention_backward(x, x, x, x, c(3, 5),
    out = forward$out, lse = forward$lse
  )
  expect_identical(left, given)
  outputs <- list(forward$out, 2 * forward$out)
  lses <- list(forward$lse, forward$lse)
  merged <- merge_attentions(outputs, lses)
  expect_identical(
    merge_attentions_backward(outputs, lses, x),
    merge_attentions_backward(outputs, lses, x, out = merged$out, lse = merged$lse)
  )
})

test_that("a batch of nothing has a gradient of zero for the bias", {
  x <- array(0, c(3, 2, 5, 0))
  bias <- array(1, c(5, 2))
  gradients <- neighborhood_attention_backward(x, x, x, x, 3, bias = bias)
  expect_identical(gradients$grad_bias, array(0, c(5, 2)))
})

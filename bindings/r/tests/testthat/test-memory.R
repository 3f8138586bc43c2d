# SPDX-License-Identifier: MIT
#
# R's memory: arguments keep their values, doubles are not copied, and every function
# survives a collection at each allocation.

x <- numbers(3, 2, 7, 5, 1, seed = 1)
row <- numbers(3, 2, 5, 1, seed = 2)
lse <- numbers(2, 5, 1, seed = 3)
attn <- numbers(3, 2, 5, 1, seed = 4)
bias <- numbers(5, 2, seed = 5)

# A call of every function that takes arrays, small enough for gctorture.
calls <- list(
  quote(neighborhood_attention(row, row, row, 3, bias = bias, additional_keys = row,
    additional_values = row, return_lse = TRUE)),
  quote(neighborhood_attention(row, row, row, 3, precision = "single")),
  quote(neighborhood_attention_backward(row, row, row, row, 3, bias = bias,
    additional_keys = row, additional_values = row, grad_lse = lse)),
  quote(neighborhood_attention_backward(row, row, row, row, 3, out = row, lse = lse,
    precision = "single")),
  quote(neighborhood_qk(row, row, 3, bias = bias)),
  quote(neighborhood_qk_backward(row, row, attn, 3, bias = bias)),
  quote(neighborhood_av(attn, row, 3)),
  quote(neighborhood_av_backward(attn, row, row, 3, precision = "single")),
  quote(merge_attentions(list(row, row), list(lse, lse))),
  quote(merge_attentions_backward(list(row, row), list(lse, lse), row, lse)),
  quote(merge_attentions_backward(list(row), list(lse), row, precision = "single")),
  quote(natten_plan(row, row, row, 3))
)
others <- list(
  quote(natten_set_num_threads(natten_num_threads())),
  quote(natten_set_cpu_variant(NULL)),
  quote(natten_cpu_variants()),
  quote(natten_version()),
  quote(natten_build_info()),
  quote(tryCatch(neighborhood_attention(row, row, row, 99), error = conditionMessage)),
  quote(tryCatch(neighborhood_attention(row, row, "a", 3), error = conditionMessage)),
  quote(tryCatch(natten_plan(row, row, backend = "none", kernel_size = 3),
    error = conditionMessage))
)

for (call in c(calls, others)) {
  test_that(paste(deparse1(call), "survives gctorture"), {
    expected <- eval(call)
    gctorture(TRUE)
    got <- tryCatch(eval(call), finally = gctorture(FALSE))
    expect_identical(got, expected)
  })
}

test_that("200 calls survive collections that come at any time", {
  here <- environment()
  before <- lapply(calls, eval, here)
  for (round in 1:17) {
    gctorture2(7, wait = round)
    got <- tryCatch(lapply(calls, eval, here), finally = gctorture2(0))
    expect_identical(got, before)
  }
})

test_that("arguments keep their values, shared or not", {
  arguments <- list(x = x, row = row, lse = lse, attn = attn, bias = bias)
  shared <- arguments
  before <- unserialize(serialize(arguments, NULL))
  for (call in calls) {
    first <- eval(call, arguments)
    kept <- unserialize(serialize(first, NULL))
    eval(call, arguments)
    expect_identical(first, kept)
  }
  expect_identical(arguments, before)
  expect_identical(shared, before)
  expect_identical(list(x = x, row = row, lse = lse, attn = attn, bias = bias), before)
})

test_that("one array may be query, key and value", {
  copy <- unserialize(serialize(x, NULL))
  expect_identical(
    neighborhood_attention(x, x, x, 3), neighborhood_attention(x, copy, copy + 0, 3)
  )
})

test_that("doubles are used where they are", {
  big <- array(0.5, c(8, 1, 4096, 8)) # 2 MiB
  neighborhood_attention(big, big, big, 1)
  gc(reset = TRUE, full = TRUE)
  before <- gc()["Vcells", 1]
  neighborhood_attention(big, big, big, 1)
  peak <- gc()["Vcells", 5]
  # The result, and less than half an array besides.
  expect_lt(peak - before, 1.5 * length(big))
})

test_that("integers and logicals are converted", {
  integers <- array(1:30 %% 7L, c(3, 2, 5, 1))
  doubles <- array(as.numeric(integers), dim(integers))
  expect_type(integers, "integer")
  expect_identical(
    neighborhood_attention(integers, integers, integers, 3L),
    neighborhood_attention(doubles, doubles, doubles, 3)
  )
  logicals <- integers > 3
  expect_identical(
    neighborhood_attention(logicals, doubles, logicals, 3),
    neighborhood_attention(logicals + 0, doubles, logicals + 0, 3)
  )
  integers[1] <- NA
  expect_true(is.na(neighborhood_attention(doubles, doubles, integers, 5)[1]))
})

# SPDX-License-Identifier: MIT
#
# Illegal arguments: an R condition with the status as its class and the sentence as its
# message, which names the parameter and the axis; and a session that goes on as before.

x <- numbers(3, 2, 7, 5, 1, seed = 1)
row <- numbers(3, 2, 7, 1, seed = 1)
attend <- function(..., query = x, key = x, value = x, kernel_size = 3) {
  neighborhood_attention(query, key, value, kernel_size, ...)
}

# A status, what the sentence says, the call.
refused <- function(status, pattern, call) {
  status <- paste0("NATTEN_ERR_", status)
  list(status = status, pattern = pattern, call = substitute(call))
}

illegal <- list(
  refused("ARGUMENT", "kernel_size\\[width\\]=8", attend(kernel_size = c(8, 1))),
  refused("ARGUMENT", "kernel_size\\[height\\]=6", attend(kernel_size = c(1, 6))),
  refused("ARGUMENT", "kernel_size\\[height\\]=0", attend(kernel_size = c(1, 0))),
  refused("ARGUMENT", "kernel_size\\[.*\\]=-1", attend(kernel_size = -1)),
  refused("ARGUMENT", "kernel_size\\[.*\\]=3000000000", attend(kernel_size = 3e9)),
  refused("ARGUMENT", "dilation\\[width\\]=0", attend(dilation = c(0, 1))),
  refused("ARGUMENT", "stride\\[height\\]=4", attend(stride = c(1, 4))),
  refused("ARGUMENT", "is_causal\\[width\\]=2", attend(is_causal = c(2, 0))),
  refused("ARGUMENT", "grid_length\\[width\\]", attend(grid_length = c(6, 5))),
  refused("ARGUMENT", "query_begin\\[height\\]", attend(query_begin = c(0, 1))),
  refused("ARGUMENT", "key_begin\\[height\\]", attend(key_begin = c(0, -1))),
  refused("ARGUMENT", "scale", attend(scale = Inf)),
  refused("ARGUMENT", "scale", attend(scale = NA)),
  refused("ARGUMENT", "scale must be one number", attend(scale = "1")),
  refused("ARGUMENT", "scale must be one number", attend(scale = 1:2)),
  refused("ARGUMENT", "kernel_size has 3 values, not 1 or 2 \\(width, height\\)",
    attend(kernel_size = c(3, 3, 3))
  ),
  refused("ARGUMENT", "kernel_size", attend(kernel_size = NULL)),
  refused("ARGUMENT", "kernel_size has 0 values", attend(kernel_size = numeric(0))),
  refused("ARGUMENT", "kernel_size=2.5 is not a whole number",
    attend(kernel_size = 2.5)
  ),
  refused("ARGUMENT", "kernel_size=.* is not a whole number",
    attend(kernel_size = 1e300)
  ),
  refused("ARGUMENT", "kernel_size is of type character", attend(kernel_size = "3")),
  refused("ARGUMENT", "kernel_size is NA", attend(kernel_size = NA)),
  refused("ARGUMENT", "stride is NA", attend(stride = NA_real_)),
  refused("ARGUMENT", "dilation is NA", attend(dilation = NA_integer_)),
  refused("ARGUMENT", "backend=\"gpu\" is not one of \"auto\", \"reference\", \"cpu\"",
    attend(backend = "gpu")
  ),
  refused("ARGUMENT", "backend must be a string", attend(backend = 1)),
  refused("ARGUMENT", "device=\"gpu\" is none of: cpu cuda", attend(device = "gpu")),
  refused("ARGUMENT", "device must be a string", attend(device = 0)),
  refused("ARGUMENT", "precision=\"half\"", attend(precision = "half")),
  refused("ARGUMENT", "return_lse must be TRUE or FALSE", attend(return_lse = NA)),
  refused("ARGUMENT", "query", attend(query = NULL)),
  refused("ARGUMENT", "value", attend(value = NULL)),
  refused("ARGUMENT", "additional_values", attend(additional_keys = x[, , , 1, ])),
  refused("DTYPE", "key is character, not an array of numbers",
    attend(key = array("1", dim(x)))
  ),
  refused("DTYPE", "query is complex", attend(query = x + 0i)),
  refused("DTYPE", "value is a factor", attend(value = factor(1:3))),
  refused("DTYPE", "bias is list", attend(bias = list(1))),
  refused("SHAPE", "query.ndim=1 not in \\[4, 4\\]", attend(query = 1:10)),
  refused("SHAPE", "query.ndim=9 not in \\[6, 6\\]",
    attend(query = array(0, rep(1, 9)))
  ),
  refused("SHAPE", "key", attend(key = x[, , , 1, ])),
  refused("SHAPE", "key", attend(key = x[, , -1, , , drop = FALSE])),
  refused("SHAPE", "value", attend(value = x[, 1, , , , drop = FALSE])),
  refused("SHAPE", "bias", attend(bias = array(0, c(5, 4, 2)))),
  refused("SHAPE", "query", attend(query = array(0, c(0, 2, 7, 5, 1)))),
  refused("SHAPE", "grad_out", neighborhood_attention_backward(x, x, x, row, 3)),
  refused("SHAPE", "lse",
    neighborhood_attention_backward(x, x, x, x, 3, out = x, lse = row)
  ),
  refused("ARGUMENT", "natten_backward: lse is NULL",
    neighborhood_attention_backward(x, x, x, x, 3, out = x)
  ),
  refused("ARGUMENT", "natten_backward: out is NULL",
    neighborhood_attention_backward(x, x, x, x, 3, lse = x[1, , , , ])
  ),
  refused("ARGUMENT", "natten_qk: kernel_size\\[length\\]=9",
    neighborhood_qk(row, row, 9)
  ),
  refused("ARGUMENT", "natten_qk: kernel_size\\[length\\]=1",
    neighborhood_qk(row, row, 1e15)
  ),
  refused("ARGUMENT", "kernel_size", neighborhood_qk_backward(row, row, row, 0)),
  refused("SHAPE", "grad_attn", neighborhood_qk_backward(row, row, row, 5)),
  refused("SHAPE", "attn", neighborhood_av(row, row, 5)),
  refused("SHAPE", "grad_out", neighborhood_av_backward(row, row, row[1, , , ], 3)),
  refused("ARGUMENT", "outputs must be a list", merge_attentions(x, list(x))),
  refused("ARGUMENT", "lses\\[\\[2\\]\\] is NULL",
    merge_attentions(list(x, x), list(x, NULL))
  ),
  refused("ARGUMENT", "count", merge_attentions(list(), list())),
  refused("SHAPE", "outputs has 2 partials, lses has 1",
    merge_attentions(list(x, x), list(x))
  ),
  refused("SHAPE", "lse", merge_attentions(list(x), list(x))),
  refused("ARGUMENT", "natten_merge_backward: lse is NULL",
    merge_attentions_backward(list(row), list(row[1, , , ]), row, out = row)
  ),
  refused("ARGUMENT", "operation=\"sideways\"",
    natten_plan(x, x, x, 3, operation = "sideways")
  ),
  refused("ARGUMENT", "threads must be one number", natten_set_num_threads(1:2)),
  refused("ARGUMENT", "threads=0.5", natten_set_num_threads(0.5)),
  refused("ARGUMENT", "threads", natten_set_num_threads(-1)),
  refused("ARGUMENT", "threads", natten_set_num_threads(1e10)),
  refused("ARGUMENT", "name must be one string", natten_set_cpu_variant(3))
)


for (case in illegal) {
  test_that(paste(deparse1(case$call), "is refused"), {
    failure <- tryCatch(eval(case$call), error = identity)
    classes <- c(case$status, "natten_error", "error", "condition")
    expect_s3_class(failure, classes, exact = TRUE)
    expect_match(conditionMessage(failure), case$pattern)
    expect_match(conditionMessage(failure), "^natten_[a-z_]+: ")
    expect_identical(failure$status, case$status)
    expect_null(conditionCall(failure))
  })
}

test_that("an argument that is missing is R's own error", {
  expect_error(neighborhood_attention(x, x), "argument \"value\" is missing")
  expect_error(neighborhood_attention(x, x, x), "argument \"kernel_size\" is missing")
  # Not found in the function's frame, not taken from elsewhere: base has a scale too.
  expect_silent(neighborhood_attention(x, x, x, 3))
})

test_that("25 failures leave no trace", {
  before <- attend()
  for (i in 1:25) {
    case <- illegal[[(i - 1) %% length(illegal) + 1]]
    expect_error(eval(case$call), class = "natten_error")
    expect_error(attend(kernel_size = 9), class = "NATTEN_ERR_ARGUMENT")
  }
  expect_identical(attend(), before)
})

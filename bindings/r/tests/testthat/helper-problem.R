# SPDX-License-Identifier: MIT
#
# Problem text (docs/problem-text.md): reading it, making its data, running it.  The
# same lines run in C, Python and Julia.

# A line as a list; per-axis values in R's order, W first.
parse_problem <- function(line) {
  tokens <- strsplit(line, " ", fixed = TRUE)[[1]]
  numbers <- function(text, by) as.numeric(strsplit(text, by, fixed = TRUE)[[1]])
  numbers_in <- function(text) rev(numbers(text, "x"))
  pair_in <- function(text) rep_len(numbers(text, ":"), 2)
  p <- list(
    line = line, operation = tokens[1], dtype = tokens[2], extras = 0, bias = FALSE,
    dlse = FALSE, seed = 1, options = list()
  )
  for (token in tokens[-(1:2)]) {
    word <- sub("[-0-9].*", "", token)
    rest <- substring(token, nchar(word) + 1)
    switch(if (grepl("^[0-9]", token)) "lengths" else word,
      lengths = p$lengths <- numbers_in(token),
      b = p$batch <- as.numeric(rest),
      h = p$heads <- pair_in(rest),
      d = p$dims <- pair_in(rest),
      w = p$options$kernel_size <- numbers_in(rest),
      s = p$options$stride <- numbers_in(rest),
      e = p$options$dilation <- numbers_in(rest),
      causal = p$options$is_causal <- rev(strsplit(rest, "")[[1]] == "1"),
      m = p$extras <- as.numeric(rest),
      bias = p$bias <- TRUE,
      scale = p$scale <- as.numeric(rest),
      g = p$options$grid_length <- numbers_in(rest),
      q = p$options$query_begin <- numbers_in(rest),
      k = p$options$key_begin <- numbers_in(rest),
      n = p$key_lengths <- numbers_in(rest),
      dlse = p$dlse <- TRUE,
      tf = NULL, # tf32: a permission that a CPU makes no use of
      seed = p$seed <- as.numeric(rest),
      stop("unknown token ", token, " in ", line)
    )
  }
  if (is.null(p$key_lengths)) {
    p$key_lengths <- p$lengths
  }
  p
}

# A tensor's elements, by the generator of docs/problem-text.md.
fill <- function(role, shape, seed) {
  x <- (seed * 1000003 + role * 7919 + 1) %% 2147483647
  if (x == 0) {
    x <- 1
  }
  elements <- numeric(prod(shape))
  for (i in seq_along(elements)) {
    x <- (48271 * x) %% 2147483647
    elements[i] <- (x %/% 8388608 - 128) / 64
  }
  array(elements, shape)
}

# All tensors that the operation takes, by the names of R's arguments.
problem_data <- function(p) {
  make <- function(role, ...) fill(role, c(...), p$seed)
  kernel <- rep_len(p$options$kernel_size, length(p$lengths))
  slots <- prod(kernel) + p$extras
  h <- p$heads[1]
  hkv <- p$heads[2]
  data <- list()
  if (p$operation %in% c("fwd", "bwd", "qk", "qkbwd")) {
    data$query <- make(0, p$dims[1], h, p$lengths, p$batch)
    data$key <- make(1, p$dims[1], hkv, p$key_lengths, p$batch)
    if (p$extras > 0) {
      data$additional_keys <- make(4, p$dims[1], hkv, p$extras, p$batch)
    }
  }
  if (p$operation %in% c("fwd", "bwd", "av", "avbwd")) {
    data$value <- make(2, p$dims[2], hkv, p$key_lengths, p$batch)
    if (p$extras > 0) {
      data$additional_values <- make(5, p$dims[2], hkv, p$extras, p$batch)
    }
  }
  if (p$bias && p$operation %in% c("fwd", "bwd", "qk", "qkbwd")) {
    data$bias <- make(3, 2 * kernel - 1, h)
  }
  if (p$operation %in% c("av", "avbwd")) {
    data$attn <- make(6, slots, h, p$lengths, p$batch)
  }
  if (p$operation == "qkbwd") {
    data$grad_attn <- make(9, slots, h, p$lengths, p$batch)
  }
  if (p$operation %in% c("bwd", "avbwd")) {
    data$grad_out <- make(10, p$dims[2], h, p$lengths, p$batch)
  }
  if (p$operation == "bwd" && p$dlse) {
    data$grad_lse <- make(11, h, p$lengths, p$batch)
  }
  data
}

# Run it; a named list of the results, in the order in which their bytes are compared.
run_problem <- function(p, data = problem_data(p)) {
  options <- p$options
  options$scale <- p$scale
  options$precision <- if (p$dtype == "fp32") "single" else "double"
  call <- function(f, tensors, ...) do.call(f, c(tensors, options, list(...)))
  forward <- setdiff(names(data), c("grad_out", "grad_lse"))
  switch(p$operation,
    fwd = call(neighborhood_attention, data, return_lse = TRUE),
    bwd = {
      results <- call(neighborhood_attention, data[forward], return_lse = TRUE)
      c(results, call(neighborhood_attention_backward, c(data, results)))
    },
    qk = list(attn = call(neighborhood_qk, data)),
    qkbwd = call(neighborhood_qk_backward, data),
    av = list(out = call(neighborhood_av, data)),
    avbwd = call(neighborhood_av_backward, data)
  )
}

# Where the texts are, or "" when the package is tested away from its source tree.
cases_folder <- function() {
  folder <- file.path(Sys.getenv("top_srcdir"), "tests", "cases")
  if (nzchar(Sys.getenv("top_srcdir")) && dir.exists(folder)) folder else ""
}

# list(list(name = "<stem>-<line number>", line)) of all cases that are for R.
all_cases <- function() {
  cases <- list()
  if (!nzchar(cases_folder())) {
    return(cases)
  }
  for (path in sort(list.files(cases_folder(), "[.]txt$", full.names = TRUE))) {
    lines <- readLines(path)
    for (number in grep("^[a-z]+ fp(64|32) ", lines)) {
      name <- paste0(sub("[.]txt$", "", basename(path)), "-", number)
      cases <- c(cases, list(list(name = name, line = lines[number])))
    }
  }
  cases
}

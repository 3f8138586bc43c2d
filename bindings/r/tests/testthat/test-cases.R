# SPDX-License-Identifier: MIT
#
# The cases that all languages run: against the oracle, and as bytes for comparing the
# languages bit for bit, when NATTEN_BITS says where to.

write_bits <- function(name, dtype, results) {
  folder <- file.path(Sys.getenv("NATTEN_BITS"), "r")
  dir.create(folder, showWarnings = FALSE, recursive = TRUE)
  file <- file(file.path(folder, paste0(name, ".bin")), "wb")
  on.exit(close(file))
  for (x in results) {
    writeBin(as.vector(x), file, size = if (dtype == "fp32") 4 else 8)
  }
}

# What the oracle says of a case: its tensors as a function of the data.
oracle_of <- function(p, data) {
  call <- function(f, names, ...) {
    do.call(f, c(data[intersect(names, names(data))], p$options, ...))
  }
  scale <- if (is.null(p$scale)) list() else list(scale = p$scale)
  keys <- c("query", "key", "bias", "additional_keys")
  switch(sub("bwd$", "", sub("^bwd$", "fwd", p$operation)),
    fwd = call(oracle, c(keys, "value", "additional_values"), scale),
    qk = list(attn = call(oracle_qk, keys, scale)),
    av = list(out = call(oracle_av, c("attn", "value", "additional_values")))
  )
}

# sum(result * its gradient) as the oracle sees it: what the gradients are of.
loss <- function(p, data) {
  results <- oracle_of(p, data)
  total <- 0
  for (name in intersect(names(results), sub("grad_", "", names(data)))) {
    x <- results[[name]]
    there <- is.finite(x)
    total <- total + sum((x * data[[paste0("grad_", name)]])[there])
  }
  total
}

# Each gradient along one random direction against the oracle's central difference.
expect_gradients <- function(p, data, results, within) {
  for (name in grep("^grad_", names(results), value = TRUE)) {
    input <- sub("grad_", "", name)
    direction <- numbers(dim(data[[input]]), seed = p$seed)
    step <- 1e-4
    moved <- lapply(c(step, -step), function(h) {
      data[[input]] <- data[[input]] + h * direction
      loss(p, data)
    })
    expected <- (moved[[1]] - moved[[2]]) / (2 * step)
    products <- results[[name]] * direction
    error <- abs(sum(products) - expected) / max(1, sum(abs(products)))
    expect(error <= within, sprintf("%s: differs by %g", name, error))
  }
}

cases <- all_cases()
if (length(cases) == 0) {
  test_that("the cases of all languages", {
    skip("tests/cases is not part of the package")
  })
}
for (case in cases) {
  test_that(case$line, {
    p <- parse_problem(case$line)
    data <- problem_data(p)
    results <- run_problem(p, data)
    single <- p$dtype == "fp32"
    expected <- if (grepl("qkbwd|avbwd", p$operation)) list() else oracle_of(p, data)
    for (name in names(expected)) {
      expect_close(results[[name]], expected[[name]], if (single) 2e-6 else 1e-14, name)
    }
    if (grepl("bwd", p$operation)) {
      expect_gradients(p, data, results, if (single) 1e-5 else 1e-7)
    }
    if (single) {
      # Doubles that hold fp32 values: narrowing loses nothing.
      for (x in results) {
        narrow <- readBin(writeBin(as.vector(x), raw(), size = 4), "double",
          n = length(x), size = 4
        )
        expect_identical(narrow, as.vector(x))
      }
    }
    if (nzchar(Sys.getenv("NATTEN_BITS"))) {
      write_bits(case$name, p$dtype, results)
    }
  })
}

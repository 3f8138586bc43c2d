# SPDX-License-Identifier: MIT
#
# The package and the process: versions, threads, variants, plans, forks, Ctrl-C.

x <- numbers(3, 2, 7, 5, 1, seed = 1)

test_that("package and library have one version", {
  expect_identical(as.character(packageVersion("natten")), natten_version())
})

test_that("the library says what it was built with", {
  expect_gt(length(natten_build_info()), 1)
})

test_that("only registered routines can be called", {
  expect_false(is.loaded("natten_forward", PACKAGE = "natten"))
})

test_that("the number of threads is set, told and put back", {
  before <- natten_num_threads()
  expect_identical(natten_set_num_threads(3), before)
  expect_identical(natten_num_threads(), 3L)
  three <- neighborhood_attention(x, x, x, 3)
  natten_set_num_threads(1)
  expect_identical(neighborhood_attention(x, x, x, 3), three)
  natten_set_num_threads(0)
  expect_identical(natten_num_threads(), before)
})

test_that("every variant of this machine computes", {
  variants <- natten_cpu_variants()
  expect_gt(length(variants), 0)
  expected <- oracle(x, x, x, 3)$out
  for (name in variants) {
    natten_set_cpu_variant(name)
    expect_close(neighborhood_attention(x, x, x, 3), expected, 1e-13, name)
  }
  natten_set_cpu_variant()
  expect_error(natten_set_cpu_variant("mmx"), "mmx", class = "natten_error")
})

test_that("every backend computes", {
  expected <- oracle(x, x, x, 3)$out
  for (name in c("auto", "reference", "cpu")) {
    got <- neighborhood_attention(x, x, x, 3, backend = name)
    expect_close(got, expected, 1e-13, name)
  }
})

test_that("a device is named, and one that is not there is told", {
  expect_identical(
    neighborhood_attention(x, x, x, 3, device = "cpu"),
    neighborhood_attention(x, x, x, 3)
  )
  # No machine has 64 GPUs.
  expect_error(neighborhood_attention(x, x, x, 3, device = "cuda:63"),
    "^natten_forward_host: ",
    class = "natten_error"
  )
  expect_error(neighborhood_attention_backward(x, x, x, x, 3, device = "cuda:63"),
    "^natten_forward_host: ",
    class = "natten_error"
  )
})

test_that("a plan says who computes", {
  expect_match(natten_plan(x, x, x, 3, backend = "reference"), "reference")
  expect_match(natten_plan(x, x, kernel_size = 3, operation = "qk"), "qk")
})

test_that("a forked child computes the same", {
  skip_on_os("windows")
  here <- neighborhood_attention(x, x, x, 3)
  there <- parallel::mclapply(1:2, function(i) neighborhood_attention(x, x, x, 3))
  expect_identical(there, list(here, here))
})

# More than 10^11 products on one thread, interrupted after a second, in a process of
# its own: an interrupt that came too late would end the run of the tests.
interrupted <- function(backend) {
  script <- tempfile(fileext = ".R")
  on.exit(unlink(script))
  writeLines(c(
    "library(natten)",
    "x <- array(0.5, c(64, 1, 2^17, 1))",
    "small <- array(0.5, c(3, 1, 5, 1))",
    "natten_set_num_threads(1)",
    "for (i in 1:2) {",
    "  system(paste('(sleep 1; kill -INT', Sys.getpid(), ') > /dev/null 2>&1 &'))",
    "  started <- proc.time()[[3]]",
    "  outcome <- tryCatch({",
    sprintf("    neighborhood_attention(x, x, x, 2^14 - 1, backend = '%s')", backend),
    "    'finished'",
    "  }, interrupt = function(c) class(c)[1])",
    "  cat(outcome, if (proc.time()[[3]] - started < 20) 'soon' else 'late', '\\n')",
    "}",
    "cat(identical(c(neighborhood_attention(small, small, small, 3)), rep(0.5, 15)))"
  ), script)
  trimws(system2(file.path(R.home("bin"), "Rscript"), c("--vanilla", script),
    stdout = TRUE, stderr = FALSE
  ))
}

for (backend in c("reference", "cpu")) {
  test_that(paste("Ctrl-C stops the backend", backend), {
    skip_on_os("windows")
    output <- interrupted(backend)
    expect_identical(output, c("interrupt soon", "interrupt soon", "TRUE"))
  })
}

# SPDX-License-Identifier: MIT
#
# Run all tests of the package and report them in TAP, a line for each test_that(): as
# make check reads it, and as R CMD check keeps it.

if (!requireNamespace("testthat", quietly = TRUE)) {
  cat("1..0 # SKIP R has no package testthat\n")
  quit(status = 0)
}
library(natten)

# R CMD check starts here, make check in the build tree.
folder <- "testthat"
if (!dir.exists(folder)) {
  folder <- file.path(Sys.getenv("top_srcdir"), "bindings", "r", "tests", "testthat")
}
results <- testthat::test_dir(folder,
  package = "natten", reporter = "silent", stop_on_failure = FALSE
)

failed <- 0
cat("1..", length(results), "\n", sep = "")
for (i in seq_along(results)) {
  test <- results[[i]]
  outcome <- function(class) Filter(function(x) inherits(x, class), test$results)
  bad <- c(outcome("expectation_failure"), outcome("expectation_error"))
  skipped <- outcome("expectation_skip")
  # "#" would begin a directive of TAP.
  name <- paste0(sub("[.]R$", "", test$file), ": ", test$test)
  name <- gsub("#", "number ", name, fixed = TRUE)
  cat(if (length(bad)) "not ok " else "ok ", i, " - ", name, sep = "")
  if (length(skipped) && !length(bad)) {
    cat(" # SKIP", sub("^Reason: ", "", skipped[[1]]$message))
  }
  cat("\n")
  for (problem in c(bad, outcome("expectation_warning"))) {
    cat(paste0("# ", strsplit(format(problem), "\n")[[1]], "\n"), sep = "")
  }
  failed <- failed + (length(bad) > 0)
}
if (failed > 0) {
  quit(status = 1)
}

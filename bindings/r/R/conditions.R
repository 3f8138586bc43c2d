# SPDX-License-Identifier: MIT
#
# How failures and interrupts become R conditions, and words become constants.  Called
# from C (src/call.c) only; the constants themselves are generated, in constants.R.

# Every failure of the package: class c("NATTEN_ERR_...", "natten_error", "error",
# "condition"), with the library's sentence as its message.
signal_failure <- function(status, sentence) {
  name <- names(natten_status)[match(status, natten_status)]
  stop(structure(
    class = c(name, "natten_error", "error", "condition"),
    list(message = sentence, call = NULL, status = name)
  ))
}

# What R itself does at Ctrl-C: tell the handlers; if none takes it, go to top level.
signal_interrupt <- function() {
  signalCondition(structure(
    class = c("interrupt", "condition"),
    list(message = "interrupted", call = NULL)
  ))
  invokeRestart("abort")
}

# "cpu" for NATTEN_BACKEND_CPU: the last part of each name of an enumeration.
words <- function(enumeration) {
  tolower(sub("^NATTEN_(BACKEND_)?", "", names(enumeration)))
}

constant_of_word <- function(word, enumeration) {
  enumeration[match(word, words(enumeration))]
}

legal_words <- function(enumeration) {
  paste0("\"", words(enumeration), "\"", collapse = ", ")
}

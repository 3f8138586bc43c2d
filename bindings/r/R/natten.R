# SPDX-License-Identifier: MIT
#
# The functions that users call.  Their arguments go to C as they are: natten_r_...()
# takes the environment of the function that was called, finds the arguments there by
# name, and gives back a list of new arrays.  Nothing is checked or computed here.

neighborhood_attention <- function(query, key, value, kernel_size, stride = 1,
                                   dilation = 1, is_causal = FALSE, scale = NULL,
                                   bias = NULL, additional_keys = NULL,
                                   additional_values = NULL, return_lse = FALSE,
                                   grid_length = NULL, query_begin = NULL,
                                   key_begin = NULL, precision = c("double", "single"),
                                   backend = "auto", device = "cpu") {
  results <- natten_r_forward(environment())
  if (return_lse) results else results$out
}

neighborhood_attention_backward <- function(query, key, value, grad_out, kernel_size,
                                            stride = 1, dilation = 1, is_causal = FALSE,
                                            scale = NULL, bias = NULL,
                                            additional_keys = NULL,
                                            additional_values = NULL,
                                            grid_length = NULL, query_begin = NULL,
                                            key_begin = NULL,
                                            precision = c("double", "single"),
                                            backend = "auto", out = NULL, lse = NULL,
                                            grad_lse = NULL, device = "cpu") {
  natten_r_backward(environment())
}

attention <- function(query, key, value, is_causal = FALSE, scale = NULL, bias = NULL,
                      additional_keys = NULL, additional_values = NULL,
                      return_lse = FALSE, precision = c("double", "single"),
                      backend = "auto", device = "cpu") {
  results <- natten_r_attention(environment())
  if (return_lse) results else results$out
}

attention_backward <- function(query, key, value, grad_out, is_causal = FALSE,
                               scale = NULL, bias = NULL, additional_keys = NULL,
                               additional_values = NULL,
                               precision = c("double", "single"), backend = "auto",
                               out = NULL, lse = NULL, grad_lse = NULL,
                               device = "cpu") {
  natten_r_attention_backward(environment())
}

neighborhood_qk <- function(query, key, kernel_size, stride = 1, dilation = 1,
                            is_causal = FALSE, scale = NULL, bias = NULL,
                            additional_keys = NULL, grid_length = NULL,
                            query_begin = NULL, key_begin = NULL,
                            precision = c("double", "single"), backend = "auto") {
  natten_r_qk(environment())$attn
}

neighborhood_qk_backward <- function(query, key, grad_attn, kernel_size, stride = 1,
                                     dilation = 1, is_causal = FALSE, scale = NULL,
                                     bias = NULL, additional_keys = NULL,
                                     grid_length = NULL, query_begin = NULL,
                                     key_begin = NULL,
                                     precision = c("double", "single"),
                                     backend = "auto") {
  natten_r_qk_backward(environment())
}

neighborhood_av <- function(attn, value, kernel_size, stride = 1, dilation = 1,
                            is_causal = FALSE, additional_values = NULL,
                            grid_length = NULL, query_begin = NULL, key_begin = NULL,
                            precision = c("double", "single"), backend = "auto") {
  natten_r_av(environment())$out
}

neighborhood_av_backward <- function(attn, value, grad_out, kernel_size, stride = 1,
                                     dilation = 1, is_causal = FALSE,
                                     additional_values = NULL, grid_length = NULL,
                                     query_begin = NULL, key_begin = NULL,
                                     precision = c("double", "single"),
                                     backend = "auto") {
  natten_r_av_backward(environment())
}

merge_attentions <- function(outputs, lses, precision = c("double", "single")) {
  natten_r_merge(environment())
}

merge_attentions_backward <- function(outputs, lses, grad_out, grad_lse = NULL,
                                      out = NULL, lse = NULL,
                                      precision = c("double", "single")) {
  natten_r_merge_backward(environment())
}

natten_plan <- function(query, key, value = NULL, kernel_size, stride = 1, dilation = 1,
                        is_causal = FALSE, scale = NULL, additional_keys = NULL,
                        grid_length = NULL, query_begin = NULL, key_begin = NULL,
                        precision = c("double", "single"), backend = "auto",
                        operation = "forward") {
  natten_r_plan(environment())
}

natten_set_num_threads <- function(threads = 0) {
  before <- natten_r_get_num_threads()
  natten_r_set_num_threads(threads)
  invisible(before)
}

natten_num_threads <- function() {
  natten_r_get_num_threads()
}

natten_set_cpu_variant <- function(name = NULL) {
  natten_r_set_cpu_variant(name)
  invisible(NULL)
}

natten_cpu_variants <- function() {
  strsplit(natten_r_cpu_variants(), " ", fixed = TRUE)[[1]]
}

natten_version <- function() {
  natten_r_version()
}

natten_build_info <- function() {
  strsplit(natten_r_build_info(), "\n", fixed = TRUE)[[1]]
}

.onLoad <- function(libname, pkgname) {
  if (!natten_r_abi_matches()) {
    stop("libnatten ", natten_version(), " has another binary interface than the one ",
      "that this package was compiled against: install the package again",
      call. = FALSE
    )
  }
}

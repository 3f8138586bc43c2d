/* SPDX-License-Identifier: MIT
 *
 * The flat functions that R calls, read by both the compiler and SWIG.
 *
 * No structs and no handles cross into R: SWIG's R runtime leaves the type tag of a new
 * pointer object unprotected while it allocates, so that a collection there kills R.
 * What crosses are R values.  An operation takes one of them, the environment of the R
 * function that the user called, and looks that function's arguments up by name; so an
 * argument is spelled once, in R's signature.
 *
 * Arrays are plain doubles in R's order, c(head_dim, heads, W, H, batch), which is the
 * same memory as C's [batch, H, W, heads, head_dim].  Per-axis values are in the
 * arrays' order too, and are reversed here.  Results are new R arrays in a named list;
 * arguments are only read.  A failure is signalled as an R condition (fail() in
 * glue.c).
 */
#ifndef NATTEN_R_GLUE_H
#define NATTEN_R_GLUE_H

#ifndef SWIG
#include <Rinternals.h>
#endif

/* list(out, lse if return_lse) */
SEXP natten_r_forward(SEXP frame);
/* list(grad_query, grad_key, grad_value and those of the optional inputs given) */
SEXP natten_r_backward(SEXP frame);
/* The same two for plain attention: no kernel_size and no other values per axis. */
SEXP natten_r_attention(SEXP frame);
SEXP natten_r_attention_backward(SEXP frame);
/* list(attn) */
SEXP natten_r_qk(SEXP frame);
/* list(grad_query, grad_key, grad_bias and grad_additional_keys if those are given) */
SEXP natten_r_qk_backward(SEXP frame);
/* list(out) */
SEXP natten_r_av(SEXP frame);
/* list(grad_attn, grad_value, grad_additional_values if given) */
SEXP natten_r_av_backward(SEXP frame);
/* list(out, lse) */
SEXP natten_r_merge(SEXP frame);
/* list(grad_outputs, grad_lses), each a list with an array for each partial */
SEXP natten_r_merge_backward(SEXP frame);
/* The plan of an operation, as one string. */
SEXP natten_r_plan(SEXP frame);

/* The process: what the header says of the functions named alike. */
SEXP natten_r_set_num_threads(SEXP threads);
SEXP natten_r_get_num_threads(void);
SEXP natten_r_set_cpu_variant(SEXP name);
SEXP natten_r_cpu_variants(void);
SEXP natten_r_version(void);
SEXP natten_r_build_info(void);
/* TRUE if the loaded library has the ABI that this package was compiled against. */
SEXP natten_r_abi_matches(void);

#endif /* NATTEN_R_GLUE_H */

/* SPDX-License-Identifier: MIT
 *
 * How a header defines a small function that host and GPU share.  Kernels call the very
 * code that the CPU calls, so that a rule (the windows of an axis, say) exists once. */
#ifndef NATTEN_BASE_INLINE_H
#define NATTEN_BASE_INLINE_H

#ifdef __CUDACC__
#define NATTEN_INLINE static inline __host__ __device__
#else
#define NATTEN_INLINE static inline
#endif

#endif

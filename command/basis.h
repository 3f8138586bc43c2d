/* SPDX-License-Identifier: MIT
 *
 * The directions in which vectors differ most, by orthogonal iteration. */
#ifndef NATTEN_COMMAND_BASIS_H
#define NATTEN_COMMAND_BASIS_H

#include <stdint.h>

/* Given the symmetric matrix [size, size], write `count` orthonormal rows [count, size]
 * that span (closely) the eigenvectors of its largest eigenvalues.  Only the span
 * matters to a distance, so that single eigenvectors are not resolved.  scratch:
 * [size]. */
void basis_make(const double *matrix, int64_t size, int64_t count, double *rows,
                double *scratch);

#endif

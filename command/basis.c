/* SPDX-License-Identifier: MIT
 *
 * Orthogonal iteration: multiply by the matrix, make orthonormal, again.  Directions
 * whose eigenvalues are nearly equal mix, which does no harm: either serves as well. */
#include "basis.h"

#include <math.h>
#include <string.h>

/* Errors shrink by (next eigenvalue / last kept) per round; patches of pictures have
 * steep spectra, and 24 rounds leave them far below the sampling error of the matrix.
 */
enum { ROUNDS = 24 };

static double product(const double *a, const double *b, int64_t size)
{
    double sum = 0;
    for (int64_t i = 0; i < size; i++)
        sum += a[i] * b[i];
    return sum;
}

/* Make row orthogonal to those before it and of length 1. Twice, because once leaves
 * rounding errors where little remains. A row with nothing left becomes zeros: the
 * matrix has lower rank. */
static void make_orthonormal(double *rows, int64_t row, int64_t size)
{
    double *own = rows + row * size;
    double before = sqrt(product(own, own, size));
    for (int pass = 0; pass < 2; pass++)
        for (int64_t r = 0; r < row; r++) {
            const double *other = rows + r * size;
            double along = product(own, other, size);
            for (int64_t i = 0; i < size; i++)
                own[i] -= along * other[i];
        }
    double length = sqrt(product(own, own, size));
    double factor = length > 1e-12 * before ? 1 / length : 0;
    for (int64_t i = 0; i < size; i++)
        own[i] *= factor;
}

void basis_make(const double *matrix, int64_t size, int64_t count, double *rows,
                double *scratch)
{
    /* A start that is orthogonal to nothing in particular: a fixed generator's numbers.
     */
    uint32_t state = 1;
    for (int64_t i = 0; i < count * size; i++) {
        state = state * 1664525U + 1013904223U;
        rows[i] = (double)state / 4294967296.0 - 0.5;
    }
    for (int round = 0; round < ROUNDS; round++)
        for (int64_t r = 0; r < count; r++) {
            double *row = rows + r * size;
            /* By columns, which are rows: sums side by side are what vectors are for.
             */
            memset(scratch, 0, (size_t)size * sizeof *scratch);
            for (int64_t i = 0; i < size; i++)
                for (int64_t j = 0; j < size; j++)
                    scratch[j] += row[i] * matrix[i * size + j];
            memcpy(row, scratch, (size_t)size * sizeof *row);
            make_orthonormal(rows, r, size);
        }
}

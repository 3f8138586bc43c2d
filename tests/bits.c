/* SPDX-License-Identifier: MIT
 *
 * Computes every case of the files in tests/cases through the public interface and
 * writes the results as bytes (docs/problem-text.md), to $NATTEN_BITS/c, where
 * check_same_bits.sh holds those of the other languages against them.  A TAP line per
 * case. */
#include "problem/problem_spec.h"
#include "problem/problem_text.h"

#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { LINE_BYTES = 1024, PATH_BYTES = 4096 };

/* A compact tensor of a case. */
typedef struct holder {
    natten_tensor tensor;
    int64_t shape[6];
    size_t bytes;
} holder;

typedef struct bits_case {
    natten_problem_spec spec;
    natten_params params;
    holder holder[NATTEN_ROLES];
} bits_case;

/* The order of results in a file, of those that the operation writes. */
static const natten_role order[] = {
    NATTEN_ATTN,
    NATTEN_OUT,
    NATTEN_LSE,
    NATTEN_GRAD_ATTN,
    NATTEN_GRAD_QUERY,
    NATTEN_GRAD_KEY,
    NATTEN_GRAD_VALUE,
    NATTEN_GRAD_BIAS,
    NATTEN_GRAD_ADDITIONAL_KEYS,
    NATTEN_GRAD_ADDITIONAL_VALUES,
};

static bool is_input(const natten_problem_spec *spec, natten_role role)
{
    switch (role) {
    case NATTEN_ATTN:
        return spec->operation != NATTEN_QK;
    case NATTEN_OUT:
    case NATTEN_LSE:
        return false; /* of bwd, too: they come from a forward of the same data */
    case NATTEN_GRAD_ATTN:
        return spec->operation != NATTEN_AV_BACKWARD;
    default:
        return role < NATTEN_GRAD_QUERY;
    }
}

static void prepare(bits_case *c)
{
    const natten_problem_spec *spec = &c->spec;
    c->params = natten_problem_spec_params(spec, NATTEN_BACKEND_AUTO);
    for (natten_role role = 0; role < NATTEN_ROLES; role++) {
        holder *h = &c->holder[role];
        memset(h, 0, sizeof *h);
        if (!natten_problem_spec_has(spec, role))
            continue;
        natten_dtype dtype = natten_problem_spec_dtype(spec, role);
        int ndim = natten_problem_spec_shape(spec, role, h->shape);
        int64_t count = 1;
        for (int n = 0; n < ndim; n++)
            count *= h->shape[n];
        h->bytes = (size_t)count * natten_dtype_bytes(dtype);
        h->tensor = (natten_tensor){
            .data = calloc(h->bytes, 1),
            .device_type = NATTEN_CPU,
            .ndim = ndim,
            .dtype_code = dtype == NATTEN_BF16 ? NATTEN_BFLOAT : NATTEN_FLOAT,
            .dtype_bits = (uint8_t)(8 * natten_dtype_bytes(dtype)),
            .dtype_lanes = 1,
            .shape = h->shape,
        };
        if (h->tensor.data == NULL)
            abort();
        if (is_input(spec, role))
            natten_problem_spec_fill(spec, role, h->tensor.data, count);
    }
}

static void discard(bits_case *c)
{
    for (natten_role role = 0; role < NATTEN_ROLES; role++)
        free(c->holder[role].tensor.data);
}

static natten_tensor *tensor(bits_case *c, natten_role role)
{
    return c->holder[role].tensor.data != NULL ? &c->holder[role].tensor : NULL;
}

#define T(r) tensor(c, NATTEN_##r)

static natten_status forward(bits_case *c)
{
    return natten_forward(&c->params, T(QUERY), T(KEY), T(VALUE), T(BIAS),
                          T(ADDITIONAL_KEYS), T(ADDITIONAL_VALUES), T(OUT), T(LSE),
                          NULL, 0, NULL);
}

static natten_status compute(bits_case *c)
{
    const natten_params *p = &c->params;
    switch (c->spec.operation) {
    case NATTEN_FORWARD:
        return forward(c);
    case NATTEN_BACKWARD: {
        natten_status status = forward(c);
        if (status != NATTEN_OK)
            return status;
        return natten_backward(p, T(QUERY), T(KEY), T(VALUE), T(BIAS),
                               T(ADDITIONAL_KEYS), T(ADDITIONAL_VALUES), T(OUT), T(LSE),
                               T(GRAD_OUT), T(GRAD_LSE), T(GRAD_QUERY), T(GRAD_KEY),
                               T(GRAD_VALUE), T(GRAD_BIAS), T(GRAD_ADDITIONAL_KEYS),
                               T(GRAD_ADDITIONAL_VALUES), NULL, 0, NULL);
    }
    case NATTEN_QK:
        return natten_qk(p, T(QUERY), T(KEY), T(BIAS), T(ADDITIONAL_KEYS), T(ATTN),
                         NULL, 0, NULL);
    case NATTEN_QK_BACKWARD:
        return natten_qk_backward(p, T(QUERY), T(KEY), T(ADDITIONAL_KEYS), T(GRAD_ATTN),
                                  T(GRAD_QUERY), T(GRAD_KEY), T(GRAD_BIAS),
                                  T(GRAD_ADDITIONAL_KEYS), NULL, 0, NULL);
    case NATTEN_AV:
        return natten_av(p, T(ATTN), T(VALUE), T(ADDITIONAL_VALUES), T(OUT), NULL, 0,
                         NULL);
    default:
        return natten_av_backward(p, T(ATTN), T(VALUE), T(ADDITIONAL_VALUES),
                                  T(GRAD_OUT), T(GRAD_ATTN), T(GRAD_VALUE),
                                  T(GRAD_ADDITIONAL_VALUES), NULL, 0, NULL);
    }
}

static bool write_results(const bits_case *c, const char *path)
{
    FILE *file = fopen(path, "wb");
    if (file == NULL)
        return false;
    bool written = true;
    for (size_t n = 0; n < sizeof order / sizeof order[0]; n++) {
        const holder *h = &c->holder[order[n]];
        if (h->tensor.data != NULL && !is_input(&c->spec, order[n]))
            written = fwrite(h->tensor.data, 1, h->bytes, file) == h->bytes && written;
    }
    return fclose(file) == 0 && written;
}

/* NULL, or what went wrong. */
static const char *run_case(const char *text, const char *path)
{
    bits_case c;
    if (natten_problem_text_parse(text, &c.spec) != NATTEN_OK)
        return natten_last_error();
    prepare(&c);
    const char *wrong = compute(&c) != NATTEN_OK   ? natten_last_error()
                        : !write_results(&c, path) ? strerror(errno)
                                                   : NULL;
    discard(&c);
    return wrong;
}

/* Run the cases of a file; `tests` counts TAP lines. */
static bool run_file(const char *path, const char *folder, int *tests)
{
    const char *name = strrchr(path, '/') + 1;
    int stem = (int)(strlen(name) - strlen(".txt"));
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        printf("not ok %d - %s: %s\n", ++*tests, path, strerror(errno));
        return false;
    }
    bool right = true;
    char line[LINE_BYTES], to[PATH_BYTES];
    for (int number = 1; fgets(line, sizeof line, file) != NULL; number++) {
        line[strcspn(line, "\n")] = '\0';
        if (line[0] == '\0' || line[0] == '#')
            continue;
        snprintf(to, sizeof to, "%s/%.*s-%d.bin", folder, stem, name, number);
        const char *wrong = run_case(line, to);
        printf("%s %d - %s%s%s\n", wrong == NULL ? "ok" : "not ok", ++*tests, line,
               wrong == NULL ? "" : ": ", wrong == NULL ? "" : wrong);
        right = right && wrong == NULL;
    }
    fclose(file);
    return right;
}

/* Make a folder and those above it. */
static bool make_folder(const char *path)
{
    char part[PATH_BYTES];
    for (size_t n = 1; n <= strlen(path) && n < sizeof part; n++)
        if (path[n] == '/' || path[n] == '\0') {
            snprintf(part, sizeof part, "%.*s", (int)n, path);
            if (mkdir(part, 0777) != 0 && errno != EEXIST)
                return false;
        }
    return true;
}

int main(void)
{
    const char *source = getenv("top_srcdir"), *to = getenv("NATTEN_BITS");
    char pattern[PATH_BYTES], folder[PATH_BYTES];
    if (source == NULL || to == NULL) {
        printf(
            "Bail out! top_srcdir and NATTEN_BITS must say where cases are and results "
            "go\n");
        return 1;
    }
    snprintf(pattern, sizeof pattern, "%s/tests/cases/*.txt", source);
    snprintf(folder, sizeof folder, "%s/c", to);
    glob_t found;
    if (!make_folder(folder) || glob(pattern, 0, NULL, &found) != 0) {
        printf("Bail out! no cases in %s, or %s can't be made\n", pattern, folder);
        return 1;
    }
    bool right = true;
    int tests = 0;
    for (size_t n = 0; n < found.gl_pathc; n++)
        right = run_file(found.gl_pathv[n], folder, &tests) && right;
    printf("1..%d\n", tests);
    globfree(&found);
    return right ? 0 : 1;
}

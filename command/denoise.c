/* SPDX-License-Identifier: MIT
 *
 * natten denoise: read a picture, perhaps add noise to it, remove noise, write, and say
 * in one line what came of it. */
#include "call.h"
#include "noise.h"
#include "nonlocal.h"
#include "report.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

/* Tuned on photographs at sigma 10, 25 and 50 (docs/denoise.md).  Weights decay over
 * this many standard deviations of the noise, with components and with whole patches...
 */
static const double tuned_h = 0.65, tuned_h_whole = 0.85;
/* ...and patches are compared over a wider middle the more noise there is. */
static double tuned_softness(double sigma)
{
    return 0.22 * pow(sigma / 25, 0.25);
}

/* A picture's defaults, and those of a stack, where the frames bring more to find. */
static const int64_t default_search[2][3] = {{1, 13, 13}, {5, 9, 9}};
static const int64_t default_patch[2][3] = {{1, 7, 7}, {1, 7, 7}};
enum { DEFAULT_COMPONENTS = 7 };

typedef struct denoising {
    call c; /* backend, explain, json, outputs */
    const char *in, *out, *noisy_out, *clean_out;
    axis_values patch, search;
    int64_t components, seed;
    double sigma, h, noise; /* negative: not given */
    picture clean, noisy, denoised;
} denoising;

enum {
    KEY_PATCH = KEY_OWN,
    KEY_SEARCH,
    KEY_COMPONENTS,
    KEY_SIGMA,
    KEY_H,
    KEY_NOISE,
    KEY_SEED,
    KEY_NOISY_OUT,
    KEY_CLEAN_OUT
};

static const struct argp_option table[] = {
    {"sigma", KEY_SIGMA, "S", 0,
     "standard deviation of the noise on the 8-bit scale [that of --noise]", 1},
    {"search", KEY_SEARCH, "W", 0,
     "width of the window to average over, in pixels; rows,columns or "
     "frames,rows,columns [13; a stack: 5,9,9]",
     1},
    {"patch", KEY_PATCH, "P", 0,
     "odd width of the patches that are compared, likewise [7; a stack: 1,7,7]", 1},
    {"h", KEY_H, "H", 0,
     "decay of the weights, on the 8-bit scale [0.65 sigma; whole patches: 0.85]", 1},
    {"components", KEY_COMPONENTS, "N", 0,
     "numbers that stand for a patch, the principal components of this picture's; 0: "
     "whole patches [7]",
     1},
    {"noise", KEY_NOISE, "S", 0,
     "add noise to the input first, and report the PSNR before and after", 2},
    {"seed", KEY_SEED, "N", 0, "of that noise [1]", 2},
    {"noisy-out", KEY_NOISY_OUT, "FILE", 0, "write the picture with noise too", 2},
    {"clean-out", KEY_CLEAN_OUT, "FILE", 0, "write the input picture too", 2},
    {0}};

/* Values per axis: frames first; pictures need none for those. */
static void parse_widths(struct argp_state *state, const char *option, const char *text,
                         axis_values *values)
{
    options_axes(state, option, text, values);
    for (int i = 0; i < values->count; i++)
        if (values->value[i] < 1 || values->value[i] > PICTURE_MAX_SIDE)
            argp_error(state, "%s: %" PRId64 " not in [1, %d]", option,
                       values->value[i], PICTURE_MAX_SIDE);
}

static double parse_positive(struct argp_state *state, const char *option,
                             const char *text)
{
    double value = options_real(state, option, text);
    if (value <= 0)
        argp_error(state, "%s: %s is not above 0", option, text);
    return value;
}

static void check(struct argp_state *state, denoising *d)
{
    if (!d->out)
        argp_error(state, d->in ? "the file to write is missing"
                                : "the files to read and to write are missing");
    for (int i = 0; i < d->patch.count; i++)
        if (d->patch.value[i] % 2 == 0)
            argp_error(state,
                       "--patch: %" PRId64 " is even: a patch has a pixel in its "
                       "middle",
                       d->patch.value[i]);
    if (d->sigma < 0 && d->noise <= 0)
        argp_error(state, "--sigma is missing");
    if (d->noise < 0 && d->seed >= 0)
        argp_error(state, "--seed: there is no --noise");
    if (d->noise < 0 && d->noisy_out)
        argp_error(state, "--noisy-out: there is no --noise");
    d->sigma = d->sigma < 0 ? d->noise : d->sigma;
    double tuned = d->components ? tuned_h : tuned_h_whole;
    d->h = d->h < 0 ? tuned * d->sigma : d->h;
    d->seed = d->seed < 0 ? 1 : d->seed;
}

static const struct argp_child children[] = {{&options_run, 0, NULL, 0},
                                             {&options_plan, 0, NULL, 0},
                                             {&options_device, 0, NULL, 0},
                                             {0}};

static error_t parse(int key, char *argument, struct argp_state *state)
{
    denoising *d = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        options_share(state, children, &d->c);
        return 0;
    case KEY_PATCH:
        parse_widths(state, "--patch", argument, &d->patch);
        return 0;
    case KEY_SEARCH:
        parse_widths(state, "--search", argument, &d->search);
        return 0;
    case KEY_COMPONENTS:
        d->components =
            options_integer(state, "--components", argument, 0, FEATURES_MAX_TAPS);
        return 0;
    case KEY_SIGMA:
        d->sigma = parse_positive(state, "--sigma", argument);
        return 0;
    case KEY_H:
        d->h = parse_positive(state, "--h", argument);
        return 0;
    case KEY_NOISE:
        d->noise = options_real(state, "--noise", argument);
        if (d->noise < 0)
            argp_error(state, "--noise: %s is below 0", argument);
        return 0;
    case KEY_SEED:
        d->seed = options_integer(state, "--seed", argument, 0, INT64_MAX);
        return 0;
    case KEY_NOISY_OUT:
        d->noisy_out = argument;
        return 0;
    case KEY_CLEAN_OUT:
        d->clean_out = argument;
        return 0;
    case ARGP_KEY_ARG:
        if (d->out)
            argp_error(state, "'%s': too many files", argument);
        *(d->in ? &d->out : &d->in) = argument;
        return 0;
    case ARGP_KEY_END:
        check(state, d);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp argp = {
    table,
    parse,
    "IN OUT.png --sigma S",
    "Remove noise from a picture by non-local means: each pixel becomes the mean of "
    "the "
    "pixels around it, weighted by how alike the patches around them are.  That is one "
    "neighborhood attention: patches are queries and keys, pixels are values.\v"
    "IN is a PNG or a JPEG, or a .npy of [height, width], a stack [frames, height, "
    "width] "
    "or [frames, height, width, channels]; floating-point samples are on the 8-bit "
    "scale "
    "too.  OUT is a PNG, or a .npy where it is named so.  An alpha channel is kept as "
    "it "
    "is.",
    children,
    NULL,
    NULL};

/* Widths for frames, rows, columns from an option or the defaults. */
static int widths(const denoising *d, const axis_values *values, const char *option,
                  const int64_t defaults[2][3], int64_t to[3])
{
    const picture *pic = &d->clean;
    bool stack = pic->frames > 1;
    memcpy(to, defaults[stack], 3 * sizeof *to);
    if (values->count == 3 && pic->npy_ndim < 3)
        return command_fail(EXIT_USAGE, "%s: 3 values, but a picture has 2 axes",
                            option);
    /* Two values are rows and columns, one is for them and, in a stack, for the frames.
     */
    for (int a = 0; values->count && a < 3; a++) {
        int from = values->count == 1 ? 0 : a - 3 + values->count;
        if (from >= 0 && (a > 0 || stack))
            to[a] = values->value[from];
    }
    return EXIT_FINE;
}

/* A window that is wider than the picture is cut to it, and the user told. */
static void clamp_search(const denoising *d, int64_t search[3])
{
    const int64_t size[3] = {d->clean.frames, d->clean.height, d->clean.width};
    static const char *const axis[3] = {"frames", "rows", "columns"};
    for (int a = 0; a < 3; a++) {
        if (search[a] <= size[a])
            continue;
        command_fail(0,
                     "note: --search %" PRId64 " is more than the %" PRId64
                     " %s: all of "
                     "them are searched",
                     search[a], size[a], axis[a]);
        search[a] = size[a];
    }
}

static int add_output(denoising *d, const char *option, const char *path,
                      output **added)
{
    *added = NULL;
    if (!path)
        return EXIT_FINE;
    int status = picture_check_name(&d->clean, option, path);
    return status ? status : output_add(&d->c.outputs, option, path, added);
}

/* Read, and make sure of the outputs before the work. */
static int begin(denoising *d, output *files[3])
{
    int status = picture_read(&d->clean, d->in);
    if (!status)
        status = add_output(d, "OUT", d->out, &files[0]);
    if (!status)
        status = add_output(d, "--noisy-out", d->noisy_out, &files[1]);
    if (!status)
        status = add_output(d, "--clean-out", d->clean_out, &files[2]);
    if (!status &&
        (!picture_like(&d->noisy, &d->clean) || !picture_like(&d->denoised, &d->clean)))
        status = command_fail(EXIT_IO, "out of memory");
    return status;
}

/* "600x512 colour; sigma 25; PSNR 20.27 -> 30.31 dB; 0.28 s, 2 threads; b.png, n.png,
 * d.png" */
static void print_line(const denoising *d, double before, double after, double seconds)
{
    const picture *pic = &d->clean;
    if (pic->frames > 1)
        printf("%" PRId64 " frames of ", pic->frames);
    printf("%" PRId64 "x%" PRId64 " %s; sigma %g; ", pic->width, pic->height,
           pic->channels == 1 ? "grey" : "colour", d->sigma);
    if (d->noise >= 0)
        printf("noise %g, PSNR %.2f -> %.2f dB; ", d->noise, before, after);
    int threads = natten_get_num_threads();
    printf("%.2f s, %d %s; ", seconds, threads, threads == 1 ? "thread" : "threads");
    if (d->clean_out)
        printf("%s, ", d->clean_out);
    if (d->noisy_out)
        printf("%s, ", d->noisy_out);
    printf("%s\n", d->out);
}

static int print_report(const denoising *d, double before, double after, double seconds)
{
    if (!d->c.json) {
        print_line(d, before, after, seconds);
        return EXIT_FINE;
    }
    report *facts = report_create(true);
    if (!facts)
        return EXIT_IO;
    report_integer(facts, "frames", d->clean.frames);
    report_integer(facts, "height", d->clean.height);
    report_integer(facts, "width", d->clean.width);
    report_integer(facts, "channels", d->clean.channels);
    report_real(facts, "sigma", d->sigma, 3);
    report_real(facts, "h", d->h, 3);
    if (d->noise >= 0) {
        report_real(facts, "noise", d->noise, 3);
        report_integer(facts, "seed", d->seed);
        report_real(facts, "psnr_before", before, 2);
        report_real(facts, "psnr_after", after, 2);
    }
    report_integer(facts, "threads", natten_get_num_threads());
    report_real(facts, "seconds", seconds, 3);
    report_text(facts, "out", d->out);
    if (d->noisy_out)
        report_text(facts, "noisy_out", d->noisy_out);
    if (d->clean_out)
        report_text(facts, "clean_out", d->clean_out);
    report_finish(facts, false);
    return EXIT_FINE;
}

static int denoise(denoising *d)
{
    output *files[3];
    nonlocal_options options = {.sigma = d->sigma,
                                .h = d->h,
                                .backend = d->c.backend,
                                .on_gpu = d->c.on_gpu,
                                .gpu = d->c.gpu,
                                .explain = d->c.explain,
                                .features = {.components = d->components,
                                             .softness = tuned_softness(d->sigma)}};
    int status = begin(d, files);
    if (!status)
        status = widths(d, &d->search, "--search", default_search, options.search);
    if (!status)
        status = widths(d, &d->patch, "--patch", default_patch, options.features.patch);
    if (status)
        return status;
    clamp_search(d, options.search);
    memcpy(d->noisy.samples, d->clean.samples,
           (size_t)picture_samples(&d->clean) * sizeof *d->clean.samples);
    if (d->noise >= 0)
        noise_add(&d->noisy, d->noise, (uint64_t)d->seed);
    double start = call_clock();
    status = nonlocal_means(&d->denoised, &d->noisy, &options);
    if (status)
        return status;
    double seconds = call_clock() - start;
    picture_quantize(&d->denoised);
    status = picture_write(&d->denoised, files[0]);
    if (!status && files[1])
        status = picture_write(&d->noisy, files[1]);
    if (!status && files[2])
        status = picture_write(&d->clean, files[2]);
    if (!status)
        status = output_commit(&d->c.outputs);
    if (status)
        return status;
    return print_report(d, noise_psnr(&d->clean, &d->noisy),
                        noise_psnr(&d->clean, &d->denoised), seconds);
}

int command_denoise(int argc, char **argv)
{
    denoising d = {.sigma = -1,
                   .h = -1,
                   .noise = -1,
                   .seed = -1,
                   .components = DEFAULT_COMPONENTS};
    argp_parse(&argp, argc, argv, 0, NULL, &d);
    int status = denoise(&d);
    picture_free(&d.clean);
    picture_free(&d.noisy);
    picture_free(&d.denoised);
    return call_end(&d.c, status);
}

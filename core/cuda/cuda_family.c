/* SPDX-License-Identifier: MIT
 *
 * The choice among families of kernels, see cuda_family.h. */
#include "cuda/cuda_family.h"

#include <pthread.h>
#include <string.h>

/* The passes of natten_cuda_halo_pass, and those of natten_cuda_added. */
enum { PASS_ALL = NATTEN_CUDA_HALO_GRAD_BIAS + 1, PASS_REST };

/* What decides: a task without its addresses and batch, an architecture, a pass. */
typedef struct question {
    natten_task task;
    int32_t arch, pass;
} question;

/* Rows, tokens times heads, of the batch that tiles are chosen for: enough to fill any
 * GPU, as many as our benchmarks have (docs/decisions/bits-of-a-batch.md). */
enum { NOMINAL_ROWS = 1 << 20 };

/* Answers that are remembered: a network has some shapes of layers, with one pass
 * forward and up to eight questions backward each, where sums may be in any order. */
enum { ANSWERS = 128 };

/* The pass of the kernels for large windows, which have no sums of bias; of warpgroups
 * and down bands of a grid, which have neither a bias nor sums in any order. */
typedef struct same_pass {
    bool has_mma, has_others;
    natten_cuda_mma_pass mma;
    natten_cuda_wgmma_pass wgmma;
    natten_cuda_band_pass band;
} same_pass;
static const same_pass same_passes[] = {
    [NATTEN_CUDA_HALO_FORWARD] = {true, true, NATTEN_CUDA_MMA_FORWARD,
                                  NATTEN_CUDA_WGMMA_FORWARD, NATTEN_CUDA_BAND_FORWARD},
    [NATTEN_CUDA_HALO_GRAD_QUERY] = {true, true, NATTEN_CUDA_MMA_GRAD_QUERY,
                                     NATTEN_CUDA_WGMMA_GRAD_QUERY,
                                     NATTEN_CUDA_BAND_GRAD_QUERY},
    [NATTEN_CUDA_HALO_GRAD_TOKENS] = {true, true, NATTEN_CUDA_MMA_GRAD_TOKENS,
                                      NATTEN_CUDA_WGMMA_GRAD_TOKENS,
                                      NATTEN_CUDA_BAND_GRAD_TOKENS},
    [NATTEN_CUDA_HALO_GRAD_BIAS] = {.has_mma = false},
    [PASS_ALL] = {.has_mma = true, .mma = NATTEN_CUDA_MMA_GRAD_ALL},
    [PASS_REST] = {.has_mma = true, .mma = NATTEN_CUDA_MMA_GRAD_REST}};

/* The least batch of so many rows.  It follows from the shape of an item, so the family
 * and its tiles do, and an item has the bits it would have in any other batch. */
static int64_t nominal_batch(const natten_task *task)
{
    int64_t rows = task->heads;
    for (int a = 0; a < 3; a++)
        if (rows < NOMINAL_ROWS && task->axis[a].query_count > 0)
            rows *= task->axis[a].query_count;
    return (NOMINAL_ROWS - 1) / rows + 1;
}

/* Clocks that level a would take, of a GPU of 132 processors, as cuda_mma.c counts
 * them: for each element that its lanes hold, of rows and of their pairs.  Fitted to an
 * H200 (bench/results/2026-11-29-h200-mma.md). */
static double simt_clocks(const natten_task *task, int32_t pass)
{
    static const struct cost {
        double of_row, of_pair;
    } costs[2][3] = {{[NATTEN_CUDA_HALO_FORWARD] = {2.8, 0.19},
                      [NATTEN_CUDA_HALO_GRAD_QUERY] = {2.5, 0.24},
                      [NATTEN_CUDA_HALO_GRAD_TOKENS] = {3.5, 0.32}},
                     {[NATTEN_CUDA_HALO_FORWARD] = {2.8, 0.5}, /* fp64 */
                      [NATTEN_CUDA_HALO_GRAD_QUERY] = {3.2, 0.6},
                      [NATTEN_CUDA_HALO_GRAD_TOKENS] = {4.5, 0.8}}};
    const struct cost *cost = &costs[task->dtype == NATTEN_FP64][pass];
    int64_t widest = task->dim > task->dim_v ? task->dim : task->dim_v, width = 32;
    double rows = (double)task->batch * (double)task->heads, pairs = rows;
    while (width < widest)
        width *= 2;
    for (int a = 0; a < 3; a++)
        rows *= task->axis[a].query_count;
    pairs *= (double)natten_task_pairs(task);
    return (double)width * (rows * cost->of_row + pairs * cost->of_pair) /
           NATTEN_CUDA_NOMINAL_PROCESSORS;
}

/* Clocks of a pass, by whom it may be done; none if not on tensor cores. */
static double clocks_of(const natten_cuda_fit *fit)
{
    return fit->set == NATTEN_CUDA_SET_MMA     ? fit->mma.clocks
           : fit->set == NATTEN_CUDA_SET_HALO  ? fit->halo.clocks
           : fit->set == NATTEN_CUDA_SET_WGMMA ? fit->wgmma.clocks
           : fit->set == NATTEN_CUDA_SET_BAND  ? fit->band.clocks
                                               : 0;
}

/* The kernels for small windows and for large ones count what keys meet for one head of
 * queries: where heads share keys they meet all that do. */
static void count_groups(const natten_task *task, int32_t pass, natten_cuda_fit *fit)
{
    if (pass != NATTEN_CUDA_HALO_GRAD_TOKENS && pass != PASS_ALL)
        return;
    double group = (double)(task->heads / task->heads_kv);
    fit->halo.clocks *= group;
    fit->mma.clocks *= group;
}

static void find(const natten_task *task, const natten_gpu *gpu, int32_t pass,
                 natten_cuda_fit *fit)
{
    natten_task halo_task = natten_cuda_halo_task(task);
    const same_pass *same = &same_passes[pass];
    memset(fit, 0, sizeof *fit);
    bool mma = same->has_mma && natten_cuda_mma_plan(task, gpu, same->mma, &fit->mma);
    /* Of 16-bit types level a is never faster. */
    if (mma && pass < PASS_ALL && natten_dtype_bytes(task->dtype) > 2)
        mma = fit->mma.clocks < simt_clocks(task, pass);
    bool halo =
        pass < PASS_ALL &&
        natten_cuda_halo_plan(&halo_task, gpu, (natten_cuda_halo_pass)pass, &fit->halo);
    bool wgmma =
        same->has_others && natten_cuda_wgmma_plan(task, gpu, same->wgmma, &fit->wgmma);
    bool band =
        same->has_others && natten_cuda_band_plan(task, gpu, same->band, &fit->band);
    fit->set = NATTEN_CUDA_SET_SIMT;
    if (mma && (!halo || fit->mma.clocks < fit->halo.clocks))
        fit->set = NATTEN_CUDA_SET_MMA;
    else if (halo)
        fit->set = NATTEN_CUDA_SET_HALO;
    count_groups(task, pass, fit);
    if (wgmma &&
        (fit->set == NATTEN_CUDA_SET_SIMT || fit->wgmma.clocks < clocks_of(fit)))
        fit->set = NATTEN_CUDA_SET_WGMMA;
    if (band && (fit->set == NATTEN_CUDA_SET_SIMT || fit->band.clocks < clocks_of(fit)))
        fit->set = NATTEN_CUDA_SET_BAND;
}

/* find(), or what it found before, for whichever thread. */
static natten_cuda_fit recall(const natten_task *task, const natten_gpu *gpu,
                              int32_t pass)
{
    static struct {
        question asked;
        natten_cuda_fit fit;
        bool is_known;
    } answers[ANSWERS];
    static int next;
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    question now;
    natten_cuda_fit fit;
    bool is_known = false;
    memset(&now, 0, sizeof now);
    memcpy(&now.task, task, sizeof now.task);
    now.task.batch = nominal_batch(task);
    now.arch = gpu->arch, now.pass = pass;
    for (int role = 0; role < NATTEN_ROLES; role++) {
        natten_view *view = &now.task.view[role];
        view->data = view->data == NULL ? NULL : (void *)answers;
        view->batch = 0;
    }
    pthread_mutex_lock(&lock);
    for (int i = 0; i < ANSWERS && !is_known; i++) {
        is_known =
            answers[i].is_known && memcmp(&answers[i].asked, &now, sizeof now) == 0;
        if (is_known)
            fit = answers[i].fit;
    }
    pthread_mutex_unlock(&lock);
    if (is_known)
        return fit;
    find(&now.task, gpu, pass, &fit);
    pthread_mutex_lock(&lock);
    answers[next].asked = now;
    answers[next].fit = fit;
    answers[next].is_known = true;
    next = (next + 1) % ANSWERS;
    pthread_mutex_unlock(&lock);
    return fit;
}

natten_cuda_fit natten_cuda_family_choose(const natten_task *task,
                                          const natten_gpu *gpu,
                                          natten_cuda_halo_pass pass)
{
    natten_cuda_fit fit = recall(task, gpu, (int32_t)pass);
    natten_task halo_task = natten_cuda_halo_task(task);
    const same_pass *same = &same_passes[pass];
    bool fits = false;
    if (fit.set == NATTEN_CUDA_SET_MMA)
        fits = natten_cuda_mma_spread(task, same->mma, &fit.mma);
    else if (fit.set == NATTEN_CUDA_SET_HALO)
        fits = natten_cuda_halo_spread(&halo_task, gpu, pass, &fit.halo);
    else if (fit.set == NATTEN_CUDA_SET_WGMMA)
        fits = natten_cuda_wgmma_spread(task, gpu, same->wgmma, &fit.wgmma);
    else if (fit.set == NATTEN_CUDA_SET_BAND)
        fits = natten_cuda_band_spread(task, gpu, same->band, &fit.band);
    if (!fits)
        fit.set = NATTEN_CUDA_SET_SIMT;
    return fit;
}

/* Counts are some hundredths off: what others take that much longer for is faster. */
static const double surely = 0.95;

bool natten_cuda_family_adds(const natten_task *task, const natten_gpu *gpu,
                             natten_cuda_added *fit)
{
    natten_cuda_fit all = recall(task, gpu, PASS_ALL),
                    rest = recall(task, gpu, PASS_REST),
                    query = recall(task, gpu, NATTEN_CUDA_HALO_GRAD_QUERY),
                    tokens = recall(task, gpu, NATTEN_CUDA_HALO_GRAD_TOKENS);
    fit->all = all.mma, fit->rest = rest.mma;
    return all.set == NATTEN_CUDA_SET_MMA && rest.set == NATTEN_CUDA_SET_MMA &&
           all.mma.clocks + rest.mma.clocks <
               surely * (clocks_of(&query) + clocks_of(&tokens)) &&
           natten_cuda_mma_spread(task, NATTEN_CUDA_MMA_GRAD_ALL, &fit->all) &&
           natten_cuda_mma_spread(task, NATTEN_CUDA_MMA_GRAD_REST, &fit->rest);
}

/* SPDX-License-Identifier: MIT
 *
 * The host side of the CUDA backend against the fake driver: core/machine/driver.c,
 * core/machine/gpu.c, core/cuda/cuda.c, core/cuda/cuda_launch.c, core/cuda/cuda_plan.c,
 * core/cuda/cuda_family.c, core/cuda/cuda_halo.c, core/cuda/cuda_mma.c,
 * core/cuda/cuda_sweep.c, core/cuda/cuda_wgmma.c, core/cuda/cuda_count.c and
 * core/cuda/cuda_image.c, which is replaced here by an image that says nothing. Length:
 * the scenarios share what makes calls and reads the log.
 *
 *     fake_cuda NAME    run one scenario; check_cuda.sh knows them and their settings
 *
 * A process sees one driver, so scenarios are processes. */
#include "base/status.h"
#include "cuda/cuda.h"
#include "cuda/cuda_image.h"
#include "cuda/cuda_plan.h"
#include "cuda/fake_added.h"
#include "cuda/fake_band.h"
#include "cuda/fake_driver.h"
#include "cuda/fake_family.h"
#include "cuda/fake_host.h"
#include "cuda/fake_mma.h"
#include "cuda/fake_scene.h"
#include "cuda/fake_sweep.h"
#include "cuda/fake_wgmma.h"
#include "plan/plan.h"
#include "problem/problem.h"
#include "support/device.h"
#include "support/judge.h"

#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- the image ---- */

const void *natten_cuda_image(natten_dtype dtype, natten_cuda_set set)
{
    static const char *const images[NATTEN_CUDA_SETS] = {"level a for any rows",
                                                         "level a for easy rows",
                                                         "small windows",
                                                         "large windows",
                                                         "large windows in tf32",
                                                         "all gradients",
                                                         "warpgroups",
                                                         "bands"};
    return dtype < NATTEN_DTYPES ? images[set] : NULL;
}

static const char *image_archs = "75 80 86 89 90a";

const char *natten_cuda_image_archs(void)
{
    return image_archs;
}

bool natten_cuda_image_has_wgmma(void)
{
    return strstr(image_archs, "90a") != NULL;
}

int natten_cuda_image_ptx(void)
{
    return 80;
}

/* ---- the driver's other side ---- */

static void *symbol_of(const char *name)
{
    void *handle = dlopen("libcuda.so.1", RTLD_NOW);
    void *symbol = handle != NULL ? dlsym(handle, name) : NULL;
    if (symbol == NULL) {
        printf("# the fake driver is not on the library path\n");
        exit(1);
    }
    return symbol;
}

fake_state *state(void)
{
    fake_state_function *now;
    void *symbol = symbol_of("fake_state_now");
    memcpy(&now, &symbol, sizeof now);
    return now();
}

void *fake_memory_of(size_t bytes)
{
    fake_memory_function *take;
    void *symbol = symbol_of("fake_memory");
    memcpy(&take, &symbol, sizeof take);
    return (void *)take(bytes);
}

static bool is_call_of(trial *t, const char *const names[], int count, int maps)
{
    fake_state *s = state();
    int stream, before = s->launches, maps_before = s->maps;
    EXPECT(trial_call(t, NULL, 0, &stream) == NATTEN_OK);
    EXPECT(s->launches == before + count && s->synchronised == 0);
    EXPECT(s->maps - maps_before == maps);
    for (int i = 0; i < count; i++) {
        const fake_launch *l = &s->launch[before + i];
        EXPECT(strcmp(l->kernel, names[i]) == 0 && l->stream == &stream);
    }
    return true;
}

const fake_launch *fake_launches_of(trial *t, const char *const names[], int count,
                                    int maps)
{
    fake_state *s = state();
    const fake_launch *first = &s->launch[s->launches];
    return is_call_of(t, names, count, maps) ? first : NULL;
}

void forget_log(void)
{
    fake_state *s = state();
    int live = s->live;
    memset(s, 0, sizeof *s);
    s->live = live;
}

/* Memory of the host, zeros, known until the scenario's process ends. */
static void *host_memory_of(size_t bytes)
{
    typedef struct block {
        struct block *next;
        _Alignas(64) char data[];
    } block;
    static block *blocks;
    bytes = (sizeof(block) + bytes + 63) / 64 * 64;
    block *b = aligned_alloc(64, bytes);
    if (!b)
        abort();
    memset(b, 0, bytes);
    b->next = blocks;
    blocks = b;
    return b->data;
}

/* ---- calls ---- */

void make(trial *t, const char *text, int32_t device_type)
{
    memset(t, 0, sizeof *t);
    if (natten_problem_text_parse(text, &t->spec) != NATTEN_OK)
        abort();
    t->params = natten_problem_spec_params(&t->spec, NATTEN_BACKEND_AUTO);
    for (natten_role role = 0; role < NATTEN_ROLES; role++) {
        t->given[role] = natten_problem_spec_has(&t->spec, role);
        if (!t->given[role])
            continue;
        array *a = &t->array[role];
        a->dtype = natten_problem_spec_dtype(&t->spec, role);
        a->tensor.shape = a->shape;
        a->tensor.ndim = natten_problem_spec_shape(&t->spec, role, a->shape);
        a->tensor.device_type = device_type;
        natten_dtype_to_dlpack(a->dtype, &a->tensor.dtype_code, &a->tensor.dtype_bits);
        a->tensor.dtype_lanes = 1;
        size_t bytes = (size_t)array_count(a) * natten_dtype_bytes(a->dtype);
        a->tensor.data =
            device_type == NATTEN_CUDA ? fake_memory_of(bytes) : host_memory_of(bytes);
    }
}

static const char *const forward = "fwd fp32 b2 h4:2 d8 6x7 w3x3 m2 bias";
static const char *const backward = "bwd fp32 b2 h4:2 d8 6x7 w3x3 m2 bias dlse";

static natten_status call_host(const char *text)
{
    static trial t;
    make(&t, text, NATTEN_CPU);
    return fake_host_call_in_slabs(&t, 2000);
}

static uint64_t flags; /* of calls and plans */

static natten_status call(const char *text)
{
    static trial t;
    make(&t, text, NATTEN_CUDA);
    t.params.flags = flags;
    return trial_call(&t, NULL, 0, NULL);
}

static bool cpu_works(void)
{
    static trial t;
    make(&t, forward, NATTEN_CPU);
    return trial_call(&t, NULL, 0, NULL) == NATTEN_OK;
}

bool says(const char *words)
{
    return strstr(natten_last_error(), words) != NULL;
}

/* ---- scenarios: machines without a usable GPU ---- */

/* Without the fake driver, tensors are anywhere: nothing looks at them. */
static bool no_driver(void)
{
    static trial t;
    make(&t, forward, NATTEN_CPU);
    for (natten_role role = 0; role < NATTEN_ROLES; role++)
        t.array[role].tensor.device_type = NATTEN_CUDA;
    EXPECT(natten_device_count() == 0);
    EXPECT(trial_call(&t, NULL, 0, NULL) == NATTEN_ERR_NO_DEVICE);
    EXPECT(says("natten_forward: libcuda.so.1 is not there"));
    EXPECT(cpu_works());
    return true;
}

static bool no_device(void)
{
    char text[100];
    EXPECT(natten_device_count() == 0);
    EXPECT(call(forward) == NATTEN_ERR_NO_DEVICE);
    EXPECT(says("no device"));
    EXPECT(natten_device_text(0, text, sizeof text) == NATTEN_ERR_NO_DEVICE);
    EXPECT(says("natten_device_text: ") && says("no device"));
    EXPECT(cpu_works());
    return true;
}

static bool too_old(void)
{
    EXPECT(natten_device_count() == 0);
    EXPECT(call(forward) == NATTEN_ERR_DRIVER_TOO_OLD);
    EXPECT(says("CUDA 11.8") && says("12.0"));
    EXPECT(cpu_works());
    return true;
}

static bool unknown_arch(void)
{
    EXPECT(call(forward) == NATTEN_ERR_ARCH);
    EXPECT(state()->launches == 0);
    EXPECT(cpu_works());
    return true;
}

static bool old_arch(void)
{
    char text[100];
    EXPECT(natten_device_text(0, text, sizeof text) == NATTEN_ERR_ARCH);
    return unknown_arch();
}

static bool init_fails(void)
{
    EXPECT(call(forward) == NATTEN_ERR_CUDA);
    EXPECT(says("cuInit failed with 999"));
    return true;
}

static bool forked_elsewhere(void)
{
    EXPECT(call(forward) == NATTEN_ERR_FORKED);
    EXPECT(cpu_works());
    return true;
}

static bool in_child(bool (*check)(void))
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        bool passed = check();
        fflush(stdout);
        _exit(passed ? 0 : 1);
    }
    int status;
    return waitpid(child, &status, 0) == child && WIFEXITED(status) &&
           WEXITSTATUS(status) == 0;
}

static bool child_after_use(void)
{
    int calls = state()->calls;
    EXPECT(call(forward) == NATTEN_ERR_FORKED);
    EXPECT(says("fork"));
    EXPECT(natten_device_count() == 0);
    EXPECT(state()->calls == calls);
    EXPECT(cpu_works());
    return true;
}

static bool child_before_use(void)
{
    EXPECT(call(forward) == NATTEN_OK);
    return true;
}

static bool forked(void)
{
    EXPECT(in_child(child_before_use));
    EXPECT(call(forward) == NATTEN_OK);
    EXPECT(in_child(child_after_use));
    EXPECT(call(forward) == NATTEN_OK);
    return true;
}

/* ---- scenarios: what is checked about tensors ---- */

static bool wrong_memory(void)
{
    static trial t;
    make(&t, forward, NATTEN_CUDA);
    t.array[NATTEN_VALUE].tensor.data = host_memory_of(16384);
    EXPECT(trial_call(&t, NULL, 0, NULL) == NATTEN_ERR_DEVICE);
    EXPECT(says("value is at") && state()->launches == 0);
    make(&t, forward, NATTEN_CUDA);
    t.array[NATTEN_KEY].tensor.device_type = NATTEN_CPU;
    EXPECT(trial_call(&t, NULL, 0, NULL) == NATTEN_ERR_DEVICE);
    EXPECT(says("key is on device 0 of type 1"));
    make(&t, forward, NATTEN_CUDA);
    for (natten_role role = 0; role < NATTEN_ROLES; role++)
        t.array[role].tensor.device_id = 3;
    EXPECT(trial_call(&t, NULL, 0, NULL) == NATTEN_ERR_DEVICE);
    EXPECT(says("device_id=3 not in [0, 0]"));
    make(&t, forward, NATTEN_CUDA);
    t.params.backend = NATTEN_BACKEND_CPU;
    EXPECT(trial_call(&t, NULL, 0, NULL) == NATTEN_ERR_DEVICE);
    make(&t, forward, NATTEN_CPU);
    t.params.backend = NATTEN_BACKEND_CUDA;
    EXPECT(trial_call(&t, NULL, 0, NULL) == NATTEN_ERR_DEVICE);
    return true;
}

/* ---- scenarios: launches ---- */

static bool launches(void)
{
    static const char *const passes[] = {
        "natten_simt_delta",     "natten_simt_grad_query", "natten_simt_grad_tokens",
        "natten_simt_bias",      "natten_simt_sum_bias",   "natten_simt_extras",
        "natten_simt_sum_extras"};
    static trial t;
    char text[100];
    int stream;
    EXPECT(natten_device_text(0, text, sizeof text) == NATTEN_OK);
    EXPECT(strncmp(text, "Fake GPU, compute capability ", 29) == 0);
    EXPECT(natten_device_text(0, text, 5) == NATTEN_OK && strcmp(text, "Fake") == 0);
    EXPECT(natten_device_text(1, text, sizeof text) == NATTEN_ERR_DEVICE);
    EXPECT(says("device_id=1 not in [0, 0]"));
    forget_log();
    make(&t, forward, NATTEN_CUDA);
    EXPECT(trial_call(&t, NULL, 0, &stream) == NATTEN_OK);
    fake_state *s = state();
    EXPECT(s->launches == 1 && s->allocated == 0 && s->synchronised == 0);
    const fake_launch *l = &s->launch[0];
    EXPECT(strcmp(l->kernel, "natten_simt_forward") == 0 && l->stream == &stream);
    EXPECT(l->block == NATTEN_CUDA_THREADS && l->job.pieces == l->grid);
    EXPECT(l->job.task.heads == 4 && l->job.task.heads_kv == 2 && l->job.lanes == 4);
    EXPECT(l->job.task.view[NATTEN_QUERY].data == t.array[NATTEN_QUERY].tensor.data);
    EXPECT(l->job.vector >> NATTEN_QUERY & 1);
    forget_log();
    make(&t, backward, NATTEN_CUDA);
    EXPECT(trial_call(&t, NULL, 0, &stream) == NATTEN_OK);
    EXPECT(s->launches == 7 && s->synchronised == 0);
    for (int i = 0; i < 7; i++)
        EXPECT(strcmp(s->launch[i].kernel, passes[i]) == 0 &&
               s->launch[i].stream == &stream);
    EXPECT(s->allocated == 1 && s->live == 0);
    forget_log();
    size_t bytes;
    EXPECT(trial_workspace(&t, NATTEN_BACKEND_AUTO, &bytes) == NATTEN_OK);
    EXPECT(trial_call(&t, fake_memory_of(bytes), bytes, &stream) == NATTEN_OK);
    EXPECT(s->launches == 7 && s->allocated == 0);
    EXPECT(trial_call(&t, host_memory_of(bytes), bytes, &stream) == NATTEN_ERR_DEVICE);
    EXPECT(says("workspace is at"));
    /* 64 bytes are room to align any address. */
    EXPECT(trial_call(&t, fake_memory_of(bytes), bytes - 65, &stream) ==
           NATTEN_ERR_ARGUMENT);
    return true;
}

/* ---- scenarios: launches that overlap ---- */

static natten_status merge(void)
{
    static trial part[2], whole;
    natten_tensor outputs[2], lses[2];
    for (int i = 0; i < 2; i++) {
        make(&part[i], "fwd fp32 b1 h2 d8 9 w3", NATTEN_CUDA);
        outputs[i] = part[i].array[NATTEN_OUT].tensor;
        lses[i] = part[i].array[NATTEN_LSE].tensor;
    }
    make(&whole, "fwd fp32 b1 h2 d8 9 w3", NATTEN_CUDA);
    return natten_merge(2, outputs, lses, &whole.array[NATTEN_OUT].tensor,
                        &whole.array[NATTEN_LSE].tensor, NULL);
}

/* All launches so far say whether they may overlap, alike; forgets them. */
static bool logged(bool overlaps)
{
    fake_state *s = state();
    EXPECT(s->launches > 0);
    for (int i = 0; i < s->launches; i++)
        EXPECT(s->launch[i].overlaps == overlaps);
    forget_log();
    return true;
}

/* Every launch of a call may overlap the one before it, whatever its kernel, or none.
 */
static bool all_overlap(bool wanted)
{
    const char *const texts[] = {forward,
                                 backward,
                                 "bwd bf16 b1 h2 d32 20x60 w7x7 bias",
                                 "bwd fp16 b1 h2 d128 20x60 w7x7",
                                 "bwd bf16 b1 h2 d64 4096 w2048",
                                 "bwd bf16 b1 h2 d128 4096 w2048"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        EXPECT(call(texts[i]) == NATTEN_OK);
        EXPECT(logged(wanted));
    }
    EXPECT(merge() == NATTEN_OK && logged(wanted));
    EXPECT(call_host("fwd fp32 b2 h4:2 d8 6x7 w3x3 m2 bias") == NATTEN_OK);
    EXPECT(logged(wanted));
    return true;
}

static bool overlap(void)
{
    return all_overlap(true);
}

static bool no_overlap(void)
{
    return all_overlap(false);
}

static bool ptx_overlap(void)
{
    image_archs = "75 80 86 89";
    return all_overlap(false);
}

/* ---- scenarios: the n-th call fails ---- */

static bool failing_on_host; /* arrays of the host, in several slabs */
static const char *failing_text;
static int fail_at, fail_with;

/* Make one call in which the driver's fail_at-th call fails; exits 2 where the call
 * makes fewer. */
static bool one_failure(void)
{
    fake_state *s = state();
    s->fail_at = fail_at, s->fail_with = fail_with;
    natten_status (*failing)(const char *) = failing_on_host ? call_host : call;
    natten_status status = failing(failing_text);
    if (!s->failed) {
        EXPECT(status == NATTEN_OK);
        _exit(2);
    }
    EXPECT(status == NATTEN_ERR_CUDA || status == NATTEN_ERR_MEMORY ||
           status == NATTEN_ERR_ARCH || status == NATTEN_ERR_DRIVER_TOO_OLD ||
           status == NATTEN_ERR_NO_DEVICE || status == NATTEN_ERR_FORKED);
    bool probing = strncmp(s->failed_call, "cuDevice", 8) == 0 &&
                   strcmp(s->failed_call, "cuDevicePrimaryCtxRetain") != 0;
    size_t named = strcspn(s->failed_call, "_");
    char symbol[48];
    snprintf(symbol, sizeof symbol, "%.*s", (int)named, s->failed_call);
    EXPECT(probing || strcmp(symbol, "cuDriverGetVersion") == 0 || says(symbol));
    EXPECT(s->live == 0 && s->handles == 0);
    /* What fails once works the next time, except the version, which is read once. */
    s->fail_at = 0;
    EXPECT(strcmp(symbol, "cuDriverGetVersion") == 0 ||
           failing(failing_text) == NATTEN_OK);
    EXPECT(s->live == 0 && s->handles == 0);
    return true;
}

static bool failures_of(const char *text)
{
    static const int codes[] = {1, 2, 3, 100, 209, 222, 700, 999};
    failing_text = text;
    for (int c = 0; c < 8; c++)
        for (fail_at = 1;; fail_at++) {
            fail_with = codes[c];
            fflush(stdout);
            pid_t child = fork();
            if (child == 0) {
                bool passed = one_failure();
                fflush(stdout);
                _exit(passed ? 0 : 1);
            }
            int status;
            EXPECT(waitpid(child, &status, 0) == child && WIFEXITED(status));
            if (WEXITSTATUS(status) == 2)
                break;
            if (WEXITSTATUS(status) != 0)
                printf("# call %d with %d in %s\n", fail_at, fail_with, text);
            EXPECT(WEXITSTATUS(status) == 0);
        }
    EXPECT(fail_at > 20); /* the calls of probing, checking, loading, launching */
    return true;
}

static bool failures(void)
{
    EXPECT(failures_of(forward));
    EXPECT(failures_of(backward));
    EXPECT(failures_of("fwd bf16 b1 h2 d40 9x9 w3x3 bias"));
    EXPECT(failures_of("bwd fp16 b1 h2 d100 9x9 w3x3 bias"));
    EXPECT(failures_of("bwd bf16 b1 h2:1 d64 99 w99 m3"));
    EXPECT(failures_of("bwd bf16 b1 h2:1 d64 40x41 w13x13 e2x1"));
    EXPECT(failures_of("qkbwd bf16 b1 h2 d4 9 w3 m2 bias"));
    flags = NATTEN_FLAG_ALLOW_NONDETERMINISTIC;
    EXPECT(failures_of("bwd bf16 b1 h2:1 d64 1599 w1599 m3"));
    flags = 0;
    failing_on_host = true;
    EXPECT(failures_of("fwd fp32 b2 h4:2 d8 6x7 w3x3 m2 bias"));
    EXPECT(failures_of("bwd fp32 b2 h1 d8 6x7 w3x3"));
    return true;
}

/* ---- scenarios: planning for GPUs that are not here ---- */

static natten_machine machine_with(int32_t arch)
{
    natten_machine machine = {.threads = 1};
    machine.gpu = (natten_gpu){.devices = 1, .arch = arch, .processors = 100};
    return machine;
}

/* For which results do tests know that the driver's GPU would round weights? */
static uint32_t judged_as_rounded(const char *text)
{
    static trial t;
    make(&t, text, NATTEN_CUDA);
    return device_rounded(&t);
}

/* A judgement is wider for a GPU that rounds weights, and narrow again for the CPU. */
static bool judgement_turns(const char *text)
{
    static trial t;
    judgement j;
    randoms r = {1};
    EXPECT(natten_problem_text_parse(text, &t.spec) == NATTEN_OK);
    t.params = natten_problem_spec_params(&t.spec, NATTEN_BACKEND_AUTO);
    trial_allocate(&t, ARRAY_COMPACT, &r);
    trial_fill(&t, &r);
    judge_evaluate(&t, &j);
    double narrow = j.of[NATTEN_OUT].bound[0];
    judge_turn_to(&t, NATTEN_BACKEND_CUDA, &j);
    EXPECT(t.rounded == UINT32_C(1) << NATTEN_OUT &&
           j.of[NATTEN_OUT].bound[0] > narrow);
    judge_turn_to(&t, NATTEN_BACKEND_CPU, &j);
    EXPECT(t.rounded == 0 && j.of[NATTEN_OUT].bound[0] == narrow);
    judge_free(&j);
    trial_free(&t);
    return true;
}

bool fake_plan_of(const char *text, int32_t arch, natten_plan *plan)
{
    static trial t;
    make(&t, text, NATTEN_CUDA);
    natten_machine machine = machine_with(arch);
    natten_problem problem = {.operation = t.spec.operation, .params = &t.params};
    for (natten_role role = 0; role < NATTEN_ROLES; role++)
        problem.tensor[role] = trial_tensor(&t, role);
    EXPECT(natten_problem_check(&problem, &plan->task) == NATTEN_OK);
    plan->backend = &natten_cuda_backend;
    return natten_cuda_backend.choose(&plan->task, &machine, &plan->choice) ==
           NATTEN_OK;
}

static bool planning(void)
{
    static const int archs[] = {75, 80, 86, 89, 90, 100, 120};
    natten_plan plan;
    natten_cuda_pass pass[NATTEN_CUDA_PASSES];
    for (int i = 0; i < 7; i++)
        EXPECT(fake_plan_of(forward, archs[i], &plan));
    EXPECT(!fake_plan_of(forward, 70, &plan) && says("architecture 70"));
    EXPECT(!fake_plan_of(forward, 72, &plan));
    /* More tiles, and more batch items, than a grid's second axis could count. */
    EXPECT(fake_plan_of("fwd fp32 b1 h1 d1 5000000 w3", 90, &plan));
    EXPECT(natten_cuda_plan_passes(&plan, NULL, pass) == 1);
    EXPECT(pass[0].blocks == 5000000 / 64 && pass[0].job.tile[2] == 64);
    EXPECT(fake_plan_of("fwd fp32 b70000 h1 d1 2 w1", 90, &plan));
    EXPECT(natten_cuda_plan_passes(&plan, NULL, pass) == 1 && pass[0].blocks == 70000);
    /* Rows longer than a warp holds are cut; the widest side decides the lanes. */
    EXPECT(fake_plan_of("fwd fp32 b1 h1 d8:600 9 w3", 75, &plan));
    EXPECT(natten_cuda_plan_passes(&plan, NULL, pass) == 1);
    EXPECT(pass[0].job.slices == 3 && pass[0].job.lanes == 32);
    /* The workspace is the same for every GPU: bits may not depend on it. */
    EXPECT(fake_plan_of(backward, 75, &plan));
    size_t bytes = plan.choice.workspace_bytes;
    EXPECT(fake_plan_of(backward, 90, &plan) && plan.choice.workspace_bytes == bytes);
    EXPECT(bytes >= 2 * 4 * 6 * 7 * sizeof(float));
    char text[1024];
    natten_plan_print(&plan, text, sizeof text);
    EXPECT(strstr(text, "backend    cuda, device 0, kernel simt") != NULL);
    return true;
}

/* One pass has the gradients of queries and of a bias, where a warp can hold its sums;
 * how many there are does not depend on the number of processors. */
static bool halo_bias(void)
{
    natten_plan plan;
    natten_cuda_pass pass[NATTEN_CUDA_PASSES];
    EXPECT(fake_plan_of("bwd bf16 b64 h4 d32 56x60 w7x7 bias", 90, &plan));
    EXPECT(natten_cuda_plan_passes(&plan, NULL, pass) == 4);
    EXPECT(pass[0].kernel == NATTEN_CUDA_KERNEL_HALO_DELTA);
    EXPECT(pass[1].kernel == NATTEN_CUDA_KERNEL_HALO_GRAD_BIAS);
    EXPECT(pass[2].kernel == NATTEN_CUDA_KERNEL_SUM_BIAS);
    EXPECT(pass[3].kernel == NATTEN_CUDA_KERNEL_HALO_GRAD_KEY + 3);
    const natten_cuda_halo *h = &pass[1].job.halo;
    EXPECT(h->is_by_head && h->pairs <= NATTEN_CUDA_HALO_SUMS && h->inner == 64);
    EXPECT(pass[1].blocks == (int64_t)h->positions * 4 * h->chunks);
    EXPECT(pass[2].job.chunks == h->positions * h->chunks);
    int64_t partials = (int64_t)pass[2].job.chunks * 4 * pass[2].job.entries;
    EXPECT(plan.choice.workspace_bytes >= (size_t)partials * sizeof(float));
    int32_t chunks = h->chunks;
    plan.choice.processors = 20;
    EXPECT(natten_cuda_plan_passes(&plan, NULL, pass) == 4 && h->chunks == chunks);
    /* More pairs than a warp holds; rows too wide; more planes than one. */
    static const char *const left[] = {"bwd bf16 b4 h4 d32 56x56 w13x13 bias",
                                       "bwd bf16 b4 h4 d96 56x56 w7x7 bias",
                                       "bwd bf16 b4 h4 d32 9x9x9 w3x3x3 bias"};
    for (int i = 0; i < 3; i++) {
        EXPECT(fake_plan_of(left[i], 90, &plan));
        int count = natten_cuda_plan_passes(&plan, NULL, pass);
        EXPECT(pass[1].kernel >= NATTEN_CUDA_KERNEL_HALO_GRAD_QUERY &&
               pass[1].kernel < NATTEN_CUDA_KERNEL_HALO_GRAD_KEY);
        EXPECT(pass[count - 1].kernel == NATTEN_CUDA_KERNEL_SUM_BIAS);
    }
    return true;
}

enum { GRADIENTS = NATTEN_ROLES - NATTEN_GRAD_QUERY };

/* The task of a backward call with a bias, as the question for the size of its
 * workspace is asked: by what shapes it. */
static bool sketch_of(const char *text, natten_task *task)
{
    static trial t;
    make(&t, text, NATTEN_CUDA);
    natten_problem problem = {.operation = NATTEN_BACKWARD, .params = &t.params};
    for (natten_role role = 0; role < NATTEN_OUT; role++)
        if (role != NATTEN_BIAS)
            problem.tensor[role] = trial_tensor(&t, role);
    return natten_problem_sketch(&problem, task) == NATTEN_OK;
}

/* All passes of a plan keep within the workspace: delta, statistics, partial sums, one
 * after the other. */
static bool passes_fit(const natten_plan *plan)
{
    natten_cuda_pass pass[NATTEN_CUDA_PASSES];
    const natten_task *task = &plan->task;
    uint64_t rows = (uint64_t)(task->batch * task->heads);
    for (int a = 0; a < 3; a++)
        rows *= (uint64_t)task->axis[a].query_count;
    int count = natten_cuda_plan_passes(plan, NULL, pass);
    for (int i = 0; i < count; i++) {
        const natten_cuda_job *job = &pass[i].job;
        uint64_t sums = (uint64_t)job->chunks;
        if (pass[i].kernel == NATTEN_CUDA_KERNEL_SUM_BIAS)
            sums *= (uint64_t)(task->heads * job->entries);
        else if (pass[i].kernel == NATTEN_CUDA_KERNEL_SUM_EXTRAS)
            sums *= (uint64_t)(task->batch * task->extras * task->heads_kv *
                               (task->dim + task->dim_v));
        else
            sums = 0;
        uintptr_t delta_end = (uintptr_t)job->delta + rows * sizeof(float);
        uintptr_t stats_end = (uintptr_t)job->stats + rows * 2 * sizeof(float);
        uintptr_t end = (uintptr_t)job->partial + sums * sizeof(float);
        uintptr_t added_end = (uintptr_t)job->sums + pass[i].clear_bytes;
        if (job->sums != NULL &&
            ((uintptr_t)job->sums < end || added_end > plan->choice.workspace_bytes))
            return false;
        if (delta_end > (uintptr_t)job->partial ||
            (job->stats != NULL && (delta_end > (uintptr_t)job->stats ||
                                    stats_end > (uintptr_t)job->partial)) ||
            end > plan->choice.workspace_bytes)
            return false;
    }
    return true;
}

/* What natten_workspace_size() says, not told of a bias, of strides nor of what is
 * wanted, does for every choice of gradients, with a bias and without, for compact
 * tensors and for those whose strides forbid some tiles or all. */
static bool scratch_of(const char *text, int32_t arch)
{
    static const int64_t apart[] = {1, 3, 1 << 13, 1 << 16};
    natten_machine machine = machine_with(arch);
    natten_plan all = {.backend = &natten_cuda_backend}, some = all, call;
    EXPECT(sketch_of(text, &all.task));
    all.task.flags = flags;
    EXPECT(all.backend->choose(&all.task, &machine, &all.choice) == NATTEN_OK);
    EXPECT(passes_fit(&all) && fake_plan_of(text, arch, &call));
    for (unsigned wanted = 0; wanted < 8u << GRADIENTS; wanted++) {
        some.task = call.task;
        some.task.flags = flags;
        for (int g = 0; g < GRADIENTS; g++)
            if ((wanted >> g & 1) == 0)
                some.task.view[NATTEN_GRAD_QUERY + g].data = NULL;
        if (wanted >> GRADIENTS & 1)
            some.task.view[NATTEN_BIAS].data = NULL;
        for (natten_role role = 0; role < NATTEN_ROLES; role++)
            for (int a = 0; a < 3; a++)
                some.task.view[role].axis[a] *= apart[wanted >> (GRADIENTS + 1)];
        EXPECT(some.backend->choose(&some.task, &machine, &some.choice) == NATTEN_OK);
        EXPECT(passes_fit(&some));
        EXPECT(some.choice.workspace_bytes <= all.choice.workspace_bytes);
    }
    return true;
}

/* Sizes of which three times lse's bytes do not fit 63 bits: delta and statistics. */
static bool too_much_is_told(void)
{
    natten_params params;
    size_t bytes = 0;
    int64_t shape[] = {1, INT32_MAX, 715827884, 1, 1};
    natten_tensor t = {.device_type = NATTEN_CUDA,
                       .ndim = 5,
                       .dtype_code = NATTEN_BFLOAT,
                       .dtype_bits = 16,
                       .dtype_lanes = 1,
                       .shape = shape};
    EXPECT(natten_params_init(&params, sizeof params, 2) == NATTEN_OK);
    params.kernel_size[0] = params.kernel_size[1] = 1;
    EXPECT(natten_workspace_size(&params, NATTEN_BACKWARD, &t, &t, &t, NULL, &bytes) ==
           NATTEN_ERR_OVERFLOW);
    EXPECT(bytes == 0 && says("workspace"));
    shape[2] = 3;
    EXPECT(natten_workspace_size(&params, NATTEN_BACKWARD, &t, &t, &t, NULL, &bytes) ==
           NATTEN_OK);
    EXPECT(bytes >= 3 * sizeof(float) * 3 * INT32_MAX);
    return true;
}

static bool scratch(void)
{
    static const char *const texts[] = {
        "bwd bf16 b64 h4 d32 56x56 w7x7 bias",
        "bwd fp16 b3 h6:2 d64 37x41 w5x8 e2x1 bias dlse",
        "bwd bf16 b2 h1 d32 300 w9 s2 bias",
        "bwd bf16 b1 h1 d32 128x128 w7x7 bias",
        "bwd bf16 b1 h2 d64 9x10x11 w3x3x3 bias",
        "bwd bf16 b2 h2 d32 19x23 w7x7 m3 bias",
        "bwd fp32 b2 h2 d32 19x23 w7x7 bias",
        "bwd bf16 b2 h4:2 d64 50x30 w13x15"};
    for (int i = 0; i < 8; i++)
        EXPECT(scratch_of(texts[i], 75) && scratch_of(texts[i], 86) &&
               scratch_of(texts[i], 90));
    static const char *const added[] = {"bwd bf16 b2 h4:2 d64 1599 w1599 m3 bias",
                                        "bwd fp16 b1 h2 d32 60x61 w41x40 bias"};
    flags = NATTEN_FLAG_ALLOW_NONDETERMINISTIC;
    for (int i = 0; i < 2; i++)
        EXPECT(scratch_of(added[i], 86) && scratch_of(added[i], 90));
    flags = 0;
    return too_much_is_told();
}

/* Biases of all heads are kept in shared memory where a step is a unit and they fit;
 * never for gradients, or where threads copy. */
static bool kept_biases(void)
{
    static const struct {
        const char *text;
        int arch, kept;
    } plans[] = {{"fwd bf16 b64 h4 d32 56x56 w7x7 bias", 90, 1},
                 {"fwd bf16 b2 h64 d32 56x56 w7x7 bias", 90, 0},
                 {"fwd bf16 b64 h4 d32 56x56 w7x7", 90, 0},
                 {"fwd bf16 b2 h4 d64 56x56 w7x7 bias", 90, 0},
                 {"fwd bf16 b64 h4 d32 56x56 w7x7 bias", 80, 0},
                 {"bwd bf16 b64 h4 d32 56x56 w7x7 bias", 90, 0}};
    natten_plan plan;
    natten_cuda_pass pass[NATTEN_CUDA_PASSES];
    for (size_t i = 0; i < sizeof plans / sizeof plans[0]; i++) {
        EXPECT(fake_plan_of(plans[i].text, plans[i].arch, &plan));
        int count = natten_cuda_plan_passes(&plan, NULL, pass);
        EXPECT(count >= 1);
        for (int p = 0; p < count; p++)
            EXPECT(pass[p].job.halo.keeps_bias == plans[i].kept);
    }
    return true;
}

/* Blocks of kinds of tiles: each tile is of one kind, and no block has much more to do
 * than the mean. */
static bool kinds_cover(const natten_cuda_pass *pass, int64_t units, int32_t room)
{
    const natten_cuda_halo *h = &pass->job.halo;
    int64_t blocks = 0, tiles = 0;
    double most = 0, rounds = (double)units / h->units;
    EXPECT(h->by_kinds && h->by_maps && !pass->plain.by_kinds);
    EXPECT(pass->plain_blocks == (int64_t)h->positions * h->replicas);
    EXPECT(units % h->units == 0);
    for (int i = 0; i < NATTEN_CUDA_SORTS * NATTEN_CUDA_SORTS; i++) {
        const natten_cuda_halo_sort *s = &pass->job.share.sort[i];
        EXPECT(s->first == blocks);
        EXPECT((s->share > 0) == (s->kinds.count > 0));
        if (s->kinds.count == 0)
            continue;
        EXPECT(s->kinds.inverse == UINT32_MAX / (uint32_t)s->kinds.count);
        EXPECT(s->tiles.inverse == UINT32_MAX / (uint32_t)s->tiles.count);
        EXPECT(s->share <= s->tiles.count * rounds);
        blocks += (int64_t)s->kinds.count * s->share;
        tiles += (int64_t)s->kinds.count * s->tiles.count;
        most = fmax(most, ceil(s->tiles.count * rounds / s->share));
    }
    EXPECT(pass->blocks == blocks && blocks <= room && tiles == h->positions);
    double mean = (double)tiles * rounds / room;
    /* A tile near a border sees less, and its rounds are shorter. */
    EXPECT(most <= fmax(1, mean * 1.25 + 1));
    return true;
}

/* Forward of small windows: which tiles are alike, and who does them. */
static bool kinds(void)
{
    static const struct {
        const char *text;
        int64_t units;
        int32_t blocks; /* of a multiprocessor */
    } shared[] = {
        {"fwd bf16 b64 h4 d32 56x56 w7x7", 256, 2},
        {"fwd bf16 b64 h4 d32 56x56 w7x7 bias", 256, 2},
        {"fwd fp16 b64 h4 d32 56x56 w7x7 e8x8", 256, 3},
        {"fwd bf16 b64 h4 d32 56x56 w3x3", 256, 3},
        {"fwd bf16 b8 h4 d32 56x56 w7x7", 32, 2},
        {"fwd bf16 b2 h8 d32 512x512 w7x7", 16, 2},
        {"fwd bf16 b4 h3 d32 57x61 w7x7 e3x2", 12, 2},
        {"fwd bf16 b6 h2 d32 40x33 w7x7 causal01 g64x64 q9x8 k0x0 n64x64", 12, 2},
    };
    natten_plan plan;
    natten_cuda_pass pass[NATTEN_CUDA_PASSES];
    for (size_t i = 0; i < sizeof shared / sizeof shared[0]; i++)
        for (int processors = 40; processors <= 132; processors += 46) {
            EXPECT(fake_plan_of(shared[i].text, 90, &plan));
            plan.choice.processors = processors;
            EXPECT(natten_cuda_plan_passes(&plan, NULL, pass) == 1);
            EXPECT(pass[0].job.halo.light == (shared[i].blocks == 3));
            EXPECT(kinds_cover(pass, shared[i].units, processors * shared[i].blocks));
            EXPECT(shared[i].blocks < 3 ||
                   pass[0].shared_bytes <= NATTEN_CUDA_SHARED_THIRD);
        }
    /* With a stride no tiles are alike, and gradients know nothing of it. */
    EXPECT(fake_plan_of("fwd bf16 b64 h4 d32 56x56 w7x7 s2x2", 90, &plan) &&
           natten_cuda_plan_passes(&plan, NULL, pass) == 1);
    EXPECT(pass[0].job.share.sort[4].kinds.count == 0);
    EXPECT(fake_plan_of("bwd bf16 b64 h4 d32 70x70 w7x7", 90, &plan));
    int count = natten_cuda_plan_passes(&plan, NULL, pass);
    for (int i = 0; i < count; i++)
        EXPECT(!pass[i].job.halo.by_kinds && !pass[i].job.halo.light);
    return true;
}

/* What the halo kernels get to do, and what they leave to level a. */
static bool halo(void)
{
    static const char *const taken[] = {
        "fwd bf16 b64 h4 d32 56x56 w7x7", "fwd fp16 b2 h4:2 d40 17x19 w13x12 s3x2 e1x1",
        "fwd bf16 b1 h1 d128:5 3x9x11 w3x5x7 causal100 bias", "fwd bf16 b1 h1 d8 5 w5"};
    static const char *const left[] = {
        "fwd fp64 b64 h4 d65 56x56 w7x7", "fwd bf16 b1 h1 d32 99x99 w99x99 bias",
        "fwd bf16 b1 h1 d32 9x9 w3x3 scale0", "fwd bf16 b1 h1 d32 9x9 w3x3 scale1e-12"};
    natten_plan plan;
    natten_cuda_pass pass[NATTEN_CUDA_PASSES];
    for (int i = 0; i < 4; i++) {
        EXPECT(fake_plan_of(taken[i], 90, &plan) &&
               strcmp(plan.choice.kernel, "halo") == 0);
        EXPECT(judged_as_rounded(taken[i]) == UINT32_C(1) << NATTEN_OUT);
        EXPECT(natten_cuda_plan_passes(&plan, NULL, pass) == 1);
        const natten_cuda_halo *h = &pass[0].job.halo, first = *h;
        EXPECT(h->by_kinds || pass[0].blocks == (int64_t)h->positions * h->replicas);
        EXPECT(h->sub[0] * h->sub[1] * h->sub[2] == NATTEN_CUDA_SUBTILE);
        EXPECT(h->units * h->warps[0] * h->warps[1] * h->warps[2] == NATTEN_CUDA_WARPS);
        EXPECT(pass[0].shared_bytes <= NATTEN_CUDA_SHARED_HALF || plan.task.dim > 64);
        EXPECT(plan.choice.work >= 1);
        /* The boxes do not depend on the number of processors, so neither do bits. */
        plan.choice.processors = 20;
        EXPECT(natten_cuda_plan_passes(&plan, NULL, pass) == 1);
        EXPECT(memcmp(first.sub, h->sub, sizeof first.sub) == 0 &&
               memcmp(first.warps, h->warps, sizeof first.warps) == 0 &&
               first.rows == h->rows);
        EXPECT(fake_plan_of(taken[i], 86, &plan) &&
               strcmp(plan.choice.kernel, "halo") == 0);
        EXPECT(natten_cuda_plan_passes(&plan, NULL, pass) == 1);
        EXPECT(pass[0].shared_bytes <= NATTEN_CUDA_SHARED_BYTES);
        EXPECT(fake_plan_of(taken[i], 75, &plan) &&
               strcmp(plan.choice.kernel, "simt") == 0);
    }
    for (int i = 0; i < 4; i++) {
        EXPECT(fake_plan_of(left[i], 90, &plan) &&
               strcmp(plan.choice.kernel, "simt") == 0);
        EXPECT(judged_as_rounded(left[i]) == 0);
    }
    EXPECT(judgement_turns("fwd bf16 b1 h1 d8 9x9 w3x3"));
    /* Of a window this large the pass over queries alone fits tensor cores: gradients
     * of keys and values are not allowed its rounding. */
    uint32_t query = UINT32_C(1) << NATTEN_GRAD_QUERY;
    uint32_t tokens = UINT32_C(1) << NATTEN_GRAD_KEY | UINT32_C(1) << NATTEN_GRAD_VALUE;
    EXPECT(judged_as_rounded("bwd bf16 b1 h1 d32 70x70 w21x21 bias") == query);
    EXPECT(judged_as_rounded("bwd bf16 b1 h1 d32 70x70 w7x7") == (query | tokens));
    EXPECT(judged_as_rounded("bwd fp32 b1 h1 d32 70x70 w7x7") == 0);
    EXPECT(judged_as_rounded("bwd fp32 b1 h1 d32 70x70 w7x7 tf32") == (query | tokens));
    /* Rows of 128 have their gradients of keys and values apart. */
    EXPECT(fake_plan_of("bwd bf16 b2 h4 d128 64x64 w7x7", 90, &plan));
    EXPECT(natten_cuda_plan_passes(&plan, NULL, pass) == 4);
    EXPECT(pass[1].kernel == NATTEN_CUDA_KERNEL_HALO_GRAD_QUERY + 2);
    EXPECT(pass[2].kernel == NATTEN_CUDA_KERNEL_HALO_GRAD_KEY + 2);
    EXPECT(pass[3].kernel == NATTEN_CUDA_KERNEL_HALO_GRAD_VALUE + 2);
    EXPECT(pass[3].shared_bytes <= NATTEN_CUDA_SHARED_LARGE);
    return kept_biases() && halo_bias();
}

/* The copy engine of Hopper fetches slices by maps, one for each combination of lengths
 * of classes, where rows are as wide as in shared memory; rows of 32 where a unit is
 * one step. Without `machine_code` there is PTX, which knows of no engine. (Warpgroups
 * take rows of 64 of a positive scale.) */
static bool maps_of(bool machine_code)
{
    static const struct {
        const char *text;
        int maps, launches;
        bool spares; /* one more where there is no engine: delta's */
    } calls[] = {
        {"fwd bf16 b1 h2 d64 20x20 w6x7 e3x1 scale-1", 4, 1, false},
        {"fwd fp16 b2 h2:1 d64 21x20x9 w3x3x3 e2x3x1 scale-1", 8, 1, false},
        {"fwd fp16 b1 h1 d64 21x20x9 w3x3x3 e2x3x2 scale-1", 0, 1,
         false}, /* too many */
        {"fwd bf16 b1 h2 d32 20x20 w7x7", 2, 1, false},
        {"fwd bf16 b1 h2 d32 20x20 w13x13", 0, 1, false},
        {"fwd bf16 b1 h2 d32 6x20x20 w3x3x3", 0, 1, false},
        {"fwd bf16 b1 h2 d40 20x20 w7x7", 0, 1, false},
        {"bwd bf16 b1 h2 d64 20x20 w7x6 e1x3 scale-1", 8, 3, false},
        {"bwd bf16 b1 h2 d32 20x60 w7x7", 4, 2, true},
    };
    static trial t;
    int stream;
    fake_state *s = state();
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        int maps = machine_code ? calls[i].maps : 0;
        int launches = calls[i].launches + (calls[i].spares && maps == 0);
        make(&t, calls[i].text, NATTEN_CUDA);
        EXPECT(trial_call(&t, NULL, 0, &stream) == NATTEN_OK);
        EXPECT(s->maps == maps && s->launches == launches);
        const fake_launch *last = &s->launch[s->launches - 1];
        EXPECT((last->job.halo.by_maps != 0) == (maps > 0));
        EXPECT((strstr(last->kernel, "_engine_") != NULL) == (maps > 0));
        forget_log();
    }
    return true;
}

/* Keys and values of two heads of 32 side by side come as rows of 64, if the engine
 * brings them; by threads no two heads do. */
static bool twins_of(bool machine_code)
{
    static const struct {
        const char *text;
        int32_t elements; /* of a row */
    } calls[] = {
        {"fwd fp16 b3 h4 d32 56x56 w7x7", 64},
        {"fwd bf16 b2 h6 d32 56x56 w7x7 e8x8", 64},
        {"fwd bf16 b1 h2 d32 20x20 w7x7", 32}, /* blocks have one unit */
        {"fwd bf16 b2 h3 d32 56x56 w7x7", 32},
        {"fwd bf16 b2 h4:2 d32 56x56 w7x7", 32},
        {"bwd bf16 b1 h2 d32 20x60 w7x7", 32},
    };
    static trial t;
    int stream;
    fake_state *s = state();
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        make(&t, calls[i].text, NATTEN_CUDA);
        EXPECT(trial_call(&t, NULL, 0, &stream) == NATTEN_OK);
        const natten_cuda_job *job = &s->launch[s->launches - 1].job;
        EXPECT(job->halo.twins == (machine_code && calls[i].elements == 64));
        EXPECT(s->map_elements == (machine_code ? calls[i].elements : 0));
        forget_log();
    }
    return true;
}

/* Rows that the engine can't read go to the same boxes by threads, in the layout of
 * their kernels. */
static bool maps_taken_back(void)
{
    static trial t;
    int stream;
    fake_state *s = state();
    for (int n = 0; n < 4; n++) {
        int apart = n % 2, biased = n / 2;
        make(&t,
             biased ? "bwd bf16 b1 h2 d32 20x60 w7x7 bias"
                    : "bwd bf16 b1 h2 d32 20x60 w7x7",
             NATTEN_CUDA);
        int64_t strides[] = {20 * 60 * 80, 60 * 80, 80, 40, 1};
        t.array[NATTEN_KEY].tensor.strides = apart ? strides : NULL;
        t.array[NATTEN_KEY].tensor.data = fake_memory_of(20 * 60 * 80 * 2 + 64);
        if (apart)
            t.array[NATTEN_KEY].tensor.data =
                (char *)t.array[NATTEN_KEY].tensor.data + 2;
        EXPECT(trial_call(&t, NULL, 0, &stream) == NATTEN_OK);
        int sums = 0;   /* a pass of level a, which knows nothing of this */
        int deltas = 0; /* the engine's kernel works it out, but not with a bias */
        for (int i = 0; i < s->launches; i++) {
            const natten_cuda_halo *h = &s->launch[i].job.halo;
            const char *name = s->launch[i].kernel;
            bool small = strstr(name, "natten_halo_") == name && strstr(name, "grad_");
            EXPECT((h->by_maps != 0) == (small && apart == 0));
            EXPECT(!small || apart == 0 || h->tables_at > h->rows_at);
            sums += strcmp(name, "natten_simt_sum_bias") == 0;
            deltas += strcmp(name, "natten_halo_delta") == 0;
            EXPECT(!h->writes_delta || i == 0);
        }
        EXPECT(sums == biased && deltas == (biased || apart));
        forget_log();
    }
    return true;
}

/* What the gradients of keys and values want to know of queries comes with delta, and
 * both with the gradient of queries; or after delta where tensors are not compact.  It
 * has a place of its own. */
static bool statistics(void)
{
    static trial t;
    int stream;
    fake_state *s = state();
    make(&t, "bwd bf16 b1 h2 d32 20x60 w7x7", NATTEN_CUDA);
    t.array[NATTEN_OUT].tensor.data = fake_memory_of(20 * 60 * 80 * 2);
    const int delta_bytes = (20 * 60 * 2 * 4 + 63) / 64 * 64;
    for (int apart = 0; apart < 2; apart++) {
        int64_t strides[] = {20 * 60 * 80, 60 * 80, 80, 40, 1};
        t.array[NATTEN_OUT].tensor.strides = apart ? strides : NULL;
        EXPECT(trial_call(&t, NULL, 0, &stream) == NATTEN_OK);
        EXPECT(s->launches == (apart ? 4 : 2));
        const char *last_before = s->launch[apart].kernel;
        EXPECT(strcmp(last_before, apart ? "natten_halo_stats"
                                         : "natten_halo_engine_grad_query_32") == 0);
        EXPECT(s->launch[apart].job.halo.writes_delta == !apart);
        for (int i = 0; i < s->launches; i++) {
            const natten_cuda_job *job = &s->launch[i].job;
            EXPECT((char *)job->stats == (char *)job->delta + delta_bytes);
            EXPECT((char *)job->partial == (char *)job->stats + 2 * delta_bytes);
        }
        forget_log();
    }
    return true;
}

static bool maps(void)
{
    return maps_of(true) && twins_of(true) && maps_taken_back();
}

static bool no_maps(void)
{
    return maps_of(false) && twins_of(false);
}

static bool no_wgmma(void)
{
    image_archs = "75 80 86 89 90";
    return fake_wgmma_lacking();
}

static const struct {
    const char *name;
    bool (*run)(void);
} scenarios[] = {
    {"no_driver", no_driver},
    {"no_device", no_device},
    {"too_old", too_old},
    {"old_arch", old_arch},
    {"unknown_arch", unknown_arch},
    {"init_fails", init_fails},
    {"forked_elsewhere", forked_elsewhere},
    {"forked", forked},
    {"wrong_memory", wrong_memory},
    {"launches", launches},
    {"overlap", overlap},
    {"no_overlap", no_overlap},
    {"ptx_overlap", ptx_overlap},
    {"failures", failures},
    {"host_arrays", fake_host_arrays},
    {"little_memory", fake_host_little_memory},
    {"host_stopped", fake_host_stopped},
    {"planning", planning},
    {"halo", halo},
    {"kinds", kinds},
    {"statistics", statistics},
    {"maps", maps},
    {"no_maps", no_maps},
    {"sweep", fake_sweep},
    {"sweep_bias", fake_sweep_bias},
    {"sweep_launches", fake_sweep_launches},
    {"mma", fake_mma},
    {"mma_launches", fake_mma_launches},
    {"mma_one_stage", fake_mma_one_stage},
    {"wgmma", fake_wgmma},
    {"wgmma_launches", fake_wgmma_launches},
    {"no_wgmma", no_wgmma},
    {"band", fake_band},
    {"band_launches", fake_band_launches},
    {"added", fake_added},
    {"added_launches", fake_added_launches},
    {"family", fake_family},
    {"scratch", scratch},
};

int main(int argc, char **argv)
{
    for (size_t i = 0; i < sizeof scenarios / sizeof scenarios[0] && argc > 1; i++)
        if (strcmp(scenarios[i].name, argv[1]) == 0)
            return scenarios[i].run() ? 0 : 1;
    printf("# no scenario %s\n", argc > 1 ? argv[1] : "given");
    return 2;
}

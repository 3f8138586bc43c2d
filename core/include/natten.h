/* SPDX-License-Identifier: MIT */
/**
 * @file natten.h
 * Neighborhood attention on 1-D, 2-D and 3-D grids: the whole public interface of
 * libnatten.
 *
 * Each token of a grid attends to the window around it. What every function computes is
 * defined in docs/definition.md; this header says what a caller hands over and gets
 * back.
 *
 * **Tensors** are heads-last and row-major in meaning: `[batch, axes..., heads,
 * head_dim]` with 1, 2 or 3 axes, named (length), (height, width) or (depth, height,
 * width). Inputs may have any strides from 0 on, outputs any that keep elements apart
 * and off all other tensors; the bytes need only the alignment of their element. The
 * stride of a size of 1 is ignored. (Whether elements meet is decided exactly, but for
 * layouts whose strides are so unrelated that it can't be told within a millisecond:
 * those are refused for outputs.)
 *
 * **Types**: fp64, fp32, bf16, fp16; all tensors of a call alike, except bias, lse and
 * their gradients, which have the accumulator type: fp64 for fp64, fp32 for the others.
 *
 * **Errors**: every operation returns a #natten_status. Nothing is written unless all
 * arguments have passed, and natten_last_error() then holds this thread's sentence: the
 * function, the parameter, its value and the legal range. Arguments are checked in this
 * order: params, presence of tensors, types and devices, shapes, per-axis values (axis
 * by axis: grid_length, query_begin, key_begin, kernel_size, dilation, stride,
 * is_causal), the sizes that kernel_size decides (of bias and attn), scale, strides and
 * addresses, overlap, workspace; the first one that fails is named.
 *
 * **Promises**: no initialisation; any number of threads may call at once; works in a
 * forked child; inputs are never written; outputs are fully written; the same call
 * gives the same bits on one machine whatever the number of threads, unless
 * #NATTEN_FLAG_ALLOW_NONDETERMINISTIC is set; the caller's
 * rounding mode and other floating-point settings change no result and are not changed;
 * nothing prints, exits or aborts. A batch of 0 is success with nothing touched. Any
 * other size of 0 is an error, except 0 extra tokens, which mean none, and an axis of a
 * part (grid_length given) that has no queries or no keys: a query without keys gives
 * out 0 and lse -inf. natten_merge() takes the results of such parts.
 *
 * **Speed**: windows of more than 2^24 tokens on the last axis, of tensors that sum in
 * fp32, are computed by the reference backend: in double, by one thread.
 *
 * **GPUs**: tensors in the memory of an NVIDIA GPU (#NATTEN_CUDA) are computed on
 * there, in the context that their memory belongs to, on the caller's stream, and
 * without waiting: a call has put its work on the stream when it returns, and what
 * fails later is reported by this or a later call as #NATTEN_ERR_CUDA. Forward
 * allocates nothing; a backward without a workspace takes one from the stream's memory
 * pool. Calls can be captured into graphs. A workspace for tensors on a GPU is memory
 * of that GPU. A process that was forked after CUDA was in use gets #NATTEN_ERR_FORKED.
 */
#ifndef NATTEN_H
#define NATTEN_H

#include <stddef.h>
#include <stdint.h>

#if defined(SWIG)
#define NATTEN_API
#elif defined(_WIN32)
#define NATTEN_API __declspec(dllexport)
#elif defined(__GNUC__)
#define NATTEN_API __attribute__((visibility("default")))
#else
#define NATTEN_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/** Largest number of axes of a grid. */
#define NATTEN_MAX_RANK 3
/** ABI generation: bindings compare it with natten_abi_version() when they load. */
#define NATTEN_ABI_VERSION 1

/** Result of every operation; the texts are natten_status_string()'s. */
typedef enum natten_status {
    NATTEN_OK = 0,               /**< it worked */
    NATTEN_ERR_ARGUMENT = -1,    /**< a value out of range, or a pointer that is NULL */
    NATTEN_ERR_SHAPE = -2,       /**< tensors disagree in shape */
    NATTEN_ERR_DTYPE = -3,       /**< an element type that is not supported here */
    NATTEN_ERR_LAYOUT = -4,      /**< strides, alignment or overlap */
    NATTEN_ERR_OVERFLOW = -5,    /**< a size that does not fit in 64 bits */
    NATTEN_ERR_MEMORY = -6,      /**< out of memory; nothing was written */
    NATTEN_ERR_UNSUPPORTED = -7, /**< legal, but not by this build or backend */
    NATTEN_ERR_DEVICE = -8,      /**< no such device, or tensors on different ones */
    NATTEN_ERR_INTERRUPTED = -9, /**< stopped by the callback; outputs unspecified */
    NATTEN_ERR_ABI = -10,        /**< a struct_size that this library does not know */
    NATTEN_ERR_NO_DEVICE = -11,  /**< no NVIDIA driver here, or no GPU */
    NATTEN_ERR_DRIVER_TOO_OLD = -12, /**< the NVIDIA driver can't load our kernels */
    NATTEN_ERR_ARCH = -13,           /**< no kernels for this GPU in this build */
    NATTEN_ERR_CUDA = -14,  /**< a call of the NVIDIA driver failed, now or earlier */
    NATTEN_ERR_FORKED = -15 /**< CUDA was in use before this process was forked */
} natten_status;

/** Element kinds, numbered as DLPack's DLDataTypeCode. */
typedef enum natten_dtype_code {
    NATTEN_FLOAT = 2, /**< IEEE: 16, 32 or 64 bits */
    NATTEN_BFLOAT = 4 /**< bfloat16: 16 bits */
} natten_dtype_code;

/** Devices, numbered as DLPack's DLDeviceType. */
typedef enum natten_device_type {
    NATTEN_CPU = 1, /**< host memory */
    NATTEN_CUDA = 2 /**< memory of an NVIDIA GPU */
} natten_device_type;

/** Who computes. */
typedef enum natten_backend {
    NATTEN_BACKEND_AUTO = 0,      /**< the fastest that can */
    NATTEN_BACKEND_REFERENCE = 1, /**< the definition, in double, one thread: slow */
    NATTEN_BACKEND_CPU = 2,       /**< vectors and threads */
    NATTEN_BACKEND_CUDA = 3       /**< an NVIDIA GPU: tensors in its memory */
} natten_backend;

/** Operations, for natten_workspace_size(), natten_supported() and natten_plan_text().
 */
typedef enum natten_operation {
    NATTEN_FORWARD = 0,
    NATTEN_BACKWARD = 1,
    NATTEN_QK = 2,
    NATTEN_QK_BACKWARD = 3,
    NATTEN_AV = 4,
    NATTEN_AV_BACKWARD = 5
} natten_operation;

/** Permit results that differ in their last bits from call to call, where that is
 * faster: today grad_query of bf16 and fp16 on a GPU, with large windows, head dims up
 * to 128 and no bias. Its sums are in fp32 in the workspace, which is larger by them.
 */
#define NATTEN_FLAG_ALLOW_NONDETERMINISTIC 1
/** Permit products of fp32 inputs in tf32, where the device has them: logits of query
 * and key rounded to it, P and dS rounded to it (docs/definition.md, section 12); P of
 * backward is at most 1, as by forward's lse. It counts for fused calls on tensors of
 * an NVIDIA GPU that go to tensor cores; elsewhere nothing changes. */
#define NATTEN_FLAG_ALLOW_TF32 2

/**
 * A strided view of the caller's memory, byte for byte DLPack's DLTensor:
 * `&managed->dl_tensor` can be passed as it is.
 */
typedef struct natten_tensor {
    void *data;           /**< base address; the first element is byte_offset further */
    int32_t device_type;  /**< a natten_device_type */
    int32_t device_id;    /**< which of them; 0 on the CPU */
    int32_t ndim;         /**< number of entries of shape */
    uint8_t dtype_code;   /**< a natten_dtype_code */
    uint8_t dtype_bits;   /**< 16, 32 or 64 */
    uint16_t dtype_lanes; /**< 1 */
    int64_t *shape;       /**< sizes, outermost first */
    int64_t *strides;     /**< in elements; NULL means compact row-major */
    uint64_t byte_offset; /**< from data to the first element */
} natten_tensor;

/**
 * What to compute. Fill it with natten_params_init(), then set kernel_size and whatever
 * else differs from the defaults. Per-axis values stand outermost axis first; entries
 * from `rank` on are ignored.
 */
typedef struct natten_params {
    uint32_t struct_size;   /**< sizeof(natten_params) as the caller knows it */
    int32_t rank;           /**< axes of the grid, 1 to 3 */
    int32_t backend;        /**< a natten_backend; default auto */
    int32_t has_scale;      /**< nonzero: `scale` is given, also when it is 0 */
    double scale;           /**< factor of the logits, finite as an accumulator;
                                 default head_dim^-1/2 (qk: 1) */
    uint64_t flags;         /**< NATTEN_FLAG_...; default 0, deterministic and exact */
    int64_t kernel_size[3]; /**< window: 1 <= kernel_size, kernel_size * dilation <=
                               length */
    int64_t stride[3];      /**< 1 <= stride <= kernel_size; default 1 */
    int64_t dilation[3];    /**< >= 1; default 1 */
    int64_t is_causal[3];   /**< 0 or 1; default 0 */
    int64_t grid_length[3]; /**< length of the whole grid; default 0: that of query and
                               key */
    int64_t query_begin[3]; /**< token of the grid that query starts at; default 0 */
    int64_t key_begin[3];   /**< token of the grid that key and value start at; default
                               0 */
    int64_t reserved[8];    /**< 0 */
} natten_params;

/**
 * Fill in the defaults.
 * @param params  struct to fill
 * @param size    sizeof(natten_params) as the caller knows it
 * @param rank    axes of the grid, 1 to 3
 */
NATTEN_API natten_status natten_params_init(natten_params *params, size_t size,
                                            int32_t rank);

/**
 * Neighborhood attention: out = softmax(scale query key^T + bias) value over each
 * window. (definition.md, sections 3 to 6; parts of a grid: 13.)
 *
 * @param params  what to compute
 * @param query   [batch, axes..., heads, head_dim]
 * @param key     [batch, axes..., heads_kv, head_dim]; heads is a multiple of heads_kv
 * @param value   [batch, axes..., heads_kv, head_dim_v]
 * @param bias    [heads, 2 kernel_size - 1 per axis], accumulator type, or NULL
 * @param additional_keys    [batch, extras, heads_kv, head_dim], or NULL: tokens that
 * every query sees, in the same softmax
 * @param additional_values  [batch, extras, heads_kv, head_dim_v]; NULL with the former
 * only
 * @param out     [batch, axes..., heads, head_dim_v], written
 * @param lse     [batch, axes..., heads], accumulator type, written, or NULL: natural
 *                log-sum-exp of the logits; -inf where a query sees nothing
 * @param workspace        scratch of natten_workspace_size() bytes, or NULL: the
 * library allocates it for the length of the call
 * @param workspace_bytes  its size
 * @param stream  CUDA stream of a call on a GPU; ignored on the CPU
 */
NATTEN_API natten_status natten_forward(
    const natten_params *params, const natten_tensor *query, const natten_tensor *key,
    const natten_tensor *value, const natten_tensor *bias,
    const natten_tensor *additional_keys, const natten_tensor *additional_values,
    natten_tensor *out, natten_tensor *lse, void *workspace, size_t workspace_bytes,
    void *stream);

/**
 * Gradients of natten_forward() (definition.md, section 7). Deterministic, unless
 * #NATTEN_FLAG_ALLOW_NONDETERMINISTIC is set.
 *
 * @param out       what forward gave, or the merged out of several parts
 * @param lse       what forward gave, or the merged lse of several parts
 * @param grad_out  gradient with respect to out, its shape
 * @param grad_lse  gradient with respect to lse, its shape; NULL means 0
 *
 * Each of the following is written; NULL means not wanted.
 * @param grad_query              shape of query
 * @param grad_key                shape of key
 * @param grad_value              shape of value
 * @param grad_bias               shape of bias
 * @param grad_additional_keys    shape of additional_keys
 * @param grad_additional_values  shape of additional_values
 */
NATTEN_API natten_status natten_backward(
    const natten_params *params, const natten_tensor *query, const natten_tensor *key,
    const natten_tensor *value, const natten_tensor *bias,
    const natten_tensor *additional_keys, const natten_tensor *additional_values,
    const natten_tensor *out, const natten_tensor *lse, const natten_tensor *grad_out,
    const natten_tensor *grad_lse, natten_tensor *grad_query, natten_tensor *grad_key,
    natten_tensor *grad_value, natten_tensor *grad_bias,
    natten_tensor *grad_additional_keys, natten_tensor *grad_additional_values,
    void *workspace, size_t workspace_bytes, void *stream);

/**
 * natten_forward() of arrays in host memory on a GPU: uploads, computes and downloads
 * them in slabs that overlap, and returns when the results are there. A slab is some
 * items of the batch or some heads of one item, of about 32 MiB, so the GPU's memory
 * bounds neither; one head of one item has to fit. Takes 16 MiB of pinned host memory
 * for the length of the call. The bits don't depend on the slabs; all is computed row
 * by row here and may differ from tiles on tensor cores within the bounds.
 *
 * @param device_id  which GPU, from 0
 */
NATTEN_API natten_status natten_forward_host(
    const natten_params *params, const natten_tensor *query, const natten_tensor *key,
    const natten_tensor *value, const natten_tensor *bias,
    const natten_tensor *additional_keys, const natten_tensor *additional_values,
    natten_tensor *out, natten_tensor *lse, int32_t device_id);

/** natten_backward() of arrays in host memory on a GPU, as natten_forward_host(). With
 * grad_bias, which is a sum over the batch, a slab is some heads of all its items. */
NATTEN_API natten_status natten_backward_host(
    const natten_params *params, const natten_tensor *query, const natten_tensor *key,
    const natten_tensor *value, const natten_tensor *bias,
    const natten_tensor *additional_keys, const natten_tensor *additional_values,
    const natten_tensor *out, const natten_tensor *lse, const natten_tensor *grad_out,
    const natten_tensor *grad_lse, natten_tensor *grad_query, natten_tensor *grad_key,
    natten_tensor *grad_value, natten_tensor *grad_bias,
    natten_tensor *grad_additional_keys, natten_tensor *grad_additional_values,
    int32_t device_id);

/**
 * The logits alone (definition.md, section 8): slot t of a query is its t-th visible
 * key, in row-major order of the window from its first key on; additional tokens last.
 * Empty slots hold -inf. The scale is 1 unless given.
 *
 * @param attn  [batch, axes..., heads, product of kernel_size (+ extras)], written, of
 * the query's type
 */
NATTEN_API natten_status natten_qk(const natten_params *params,
                                   const natten_tensor *query, const natten_tensor *key,
                                   const natten_tensor *bias,
                                   const natten_tensor *additional_keys,
                                   natten_tensor *attn, void *workspace,
                                   size_t workspace_bytes, void *stream);

/** Gradients of natten_qk(); entries of grad_attn in empty slots are not read. The bias
 * itself is not needed; grad_bias is [heads, 2 kernel_size - 1 per axis]. Any gradient
 * may be NULL: not wanted. */
NATTEN_API natten_status natten_qk_backward(
    const natten_params *params, const natten_tensor *query, const natten_tensor *key,
    const natten_tensor *additional_keys, const natten_tensor *grad_attn,
    natten_tensor *grad_query, natten_tensor *grad_key, natten_tensor *grad_bias,
    natten_tensor *grad_additional_keys, void *workspace, size_t workspace_bytes,
    void *stream);

/**
 * Weights times values (definition.md, section 8), the second half of the unfused pair.
 * Weights in empty slots are not read.
 *
 * @param attn   [batch, axes..., heads, product of kernel_size (+ extras)]
 * @param value  [batch, axes..., heads_kv, head_dim_v]
 * @param additional_values  [batch, extras, heads_kv, head_dim_v], or NULL
 * @param out    [batch, axes..., heads, head_dim_v], written
 */
NATTEN_API natten_status natten_av(const natten_params *params,
                                   const natten_tensor *attn,
                                   const natten_tensor *value,
                                   const natten_tensor *additional_values,
                                   natten_tensor *out, void *workspace,
                                   size_t workspace_bytes, void *stream);

/** Gradients of natten_av(); grad_attn is 0 in empty slots. Any may be NULL: not
 * wanted. */
NATTEN_API natten_status
natten_av_backward(const natten_params *params, const natten_tensor *attn,
                   const natten_tensor *value, const natten_tensor *additional_values,
                   const natten_tensor *grad_out, natten_tensor *grad_attn,
                   natten_tensor *grad_value, natten_tensor *grad_additional_values,
                   void *workspace, size_t workspace_bytes, void *stream);

/**
 * Merge attentions of the same queries over disjoint sets of keys (definition.md,
 * section 9).
 *
 * @param count    number of partials, at least 1
 * @param outputs  `count` tensors of out's shape
 * @param lses     `count` tensors of lse's shape, accumulator type; -inf: saw nothing
 * @param out      [batch, axes..., heads, head_dim_v], written
 * @param lse      [batch, axes..., heads], written, or NULL
 */
NATTEN_API natten_status natten_merge(int64_t count, const natten_tensor *outputs,
                                      const natten_tensor *lses, natten_tensor *out,
                                      natten_tensor *lse, void *stream);

/**
 * Gradients of natten_merge().
 * @param out           what merge gave
 * @param lse           what merge gave
 * @param grad_lse      gradient with respect to lse; NULL means 0
 * @param grad_outputs  `count` tensors, written
 * @param grad_lses     `count` tensors, written
 */
NATTEN_API natten_status natten_merge_backward(
    int64_t count, const natten_tensor *outputs, const natten_tensor *lses,
    const natten_tensor *out, const natten_tensor *lse, const natten_tensor *grad_out,
    const natten_tensor *grad_lse, natten_tensor *grad_outputs,
    natten_tensor *grad_lses, void *stream);

/**
 * Bytes of scratch that an operation wants, for these shapes, on this machine, with the
 * present number of threads. Backward's includes one accumulator per query and head,
 * and on the CPU four bytes for each part of the grid that a thread takes; for bf16 and
 * fp16 on the CPU also grad_key and grad_value in fp32, of as many heads as take 64
 * MiB, one at least.
 *
 * @param operation  a natten_operation
 * @param query      query; for av and its gradient: attn
 * @param key        key; for av and its gradient: value
 * @param value      value; NULL where the operation has none
 * @param additional_keys  the extra tokens (av: additional_values), or NULL
 * @param bytes      written
 */
NATTEN_API natten_status natten_workspace_size(
    const natten_params *params, int32_t operation, const natten_tensor *query,
    const natten_tensor *key, const natten_tensor *value,
    const natten_tensor *additional_keys, size_t *bytes);

/** NATTEN_OK if the call could be made on this machine, else why not, with the sentence
 * in natten_last_error(). Arguments as natten_workspace_size(); nothing is computed. */
NATTEN_API natten_status natten_supported(const natten_params *params,
                                          int32_t operation, const natten_tensor *query,
                                          const natten_tensor *key,
                                          const natten_tensor *value,
                                          const natten_tensor *additional_keys);

/** The plan of a call in words: problem, backend, variant, tiles and how much of the
 * work is waste; of a gradient's call: one that wants all gradients but the bias's.
 * Arguments as natten_workspace_size().
 * @param text   written, always NUL-terminated, cut at `bytes`
 * @param bytes  size of text, at least 1 */
NATTEN_API natten_status natten_plan_text(const natten_params *params,
                                          int32_t operation, const natten_tensor *query,
                                          const natten_tensor *key,
                                          const natten_tensor *value,
                                          const natten_tensor *additional_keys,
                                          char *text, size_t bytes);

/** Length of attn's last axis: a slot for each key of the window, then one for each
 * additional token.
 * @param params      kernel_size counts
 * @param additional  the additional keys or values, or NULL
 * @param slots       written */
NATTEN_API natten_status natten_attn_slots(const natten_params *params,
                                           const natten_tensor *additional,
                                           int64_t *slots);

/** Plain attention of sequences is neighborhood attention with rank 1 in which both
 * kernel_size and grid_length are this number (definition.md, section 8b).
 * @param queries  length of query's sequence
 * @param keys     length of key's and value's */
NATTEN_API int64_t natten_attention_length(int64_t queries, int64_t keys);

/** Threads of later calls, the calling one included; 0 means the default: the
 * environment variable NATTEN_NUM_THREADS, else the CPUs that the process may use.
 * Process-wide. A call on the CPU takes a thread for each 100000 multiply-adds of a
 * lane, some 50 microseconds, or as many as the environment variable
 * NATTEN_THREAD_WORK says, and no more. */
NATTEN_API natten_status natten_set_num_threads(int32_t threads);
/** Threads that a call would use now, at most. */
NATTEN_API int32_t natten_get_num_threads(void);

/** Instruction-set variant of the CPU backend for later calls, process-wide: one of
 * natten_cpu_variants(), or NULL for the default: the environment variable
 * NATTEN_CPU_VARIANT, else the best. Bits may differ between variants, within the
 * bounds. */
NATTEN_API natten_status natten_set_cpu_variant(const char *name);
/** Names of the variants that run on this machine, separated by spaces, best last. */
NATTEN_API const char *natten_cpu_variants(void);

/** Asked "stop?" by a running call on the thread that made it; nonzero stops it. It
 * must return (no longjmp, no exception) and must not call the library. */
typedef int32_t (*natten_cancel_callback)(void *user);
/** Poll `callback` from calls of this thread at least every 50 ms; a call that it stops
 * returns NATTEN_ERR_INTERRUPTED. NULL removes it. */
NATTEN_API void natten_set_cancel_callback(natten_cancel_callback callback, void *user);

/** A backend by its name: "auto", "reference", "cpu" or "cuda".
 * @param name     what a user wrote
 * @param backend  written: a natten_backend; whether this build has it is not asked */
NATTEN_API natten_status natten_backend_from_name(const char *name, int32_t *backend);

/** CUDA devices that this build can compute on; 0 where there are none. */
NATTEN_API int32_t natten_device_count(void);
/** A CUDA device in words: its name, compute capability, processors and memory. Where
 * it can't be used, the status and natten_last_error() say why: no kernels in this
 * build, no driver, no device, a driver too old, an architecture without kernels.
 * @param device_id  which of them, from 0
 * @param text       written, always NUL-terminated, cut at `bytes`
 * @param bytes      size of text, at least 1 */
NATTEN_API natten_status natten_device_text(int32_t device_id, char *text,
                                            size_t bytes);
/** A device by its name: "cpu", "cuda", which is the first GPU, or "cuda:1".
 * @param name         what a user wrote
 * @param device_type  written: a natten_device_type
 * @param device_id    written: which of them, from 0; whether it exists is not asked */
NATTEN_API natten_status natten_device_from_name(const char *name, int32_t *device_type,
                                                 int32_t *device_id);
/** Sentence of the last failure on this thread; "" when there was none. */
NATTEN_API const char *natten_last_error(void);
/** Short text for a status. */
NATTEN_API const char *natten_status_string(natten_status status);
/** Version of the loaded library, "major.minor.patch". */
NATTEN_API const char *natten_version(void);
/** What the loaded library was built with, a line per fact. */
NATTEN_API const char *natten_build_info(void);
/** NATTEN_ABI_VERSION of the loaded library. */
NATTEN_API uint32_t natten_abi_version(void);
/** sizeof of a public struct or offset of a field as the library was compiled, for
 * bindings to check their mirrors against.
 * @param name  "natten_params", or "natten_params.scale"
 * @return bytes, or -1 if unknown */
NATTEN_API int64_t natten_layout(const char *name);

#ifdef __cplusplus
}
#endif
#endif /* NATTEN_H */

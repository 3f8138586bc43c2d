# SPDX-License-Identifier: MIT
#
# Neighborhood attention and its gradients; plain attention is the same with one window.

const OPTIONS_DOC = """
Options: `kernel_size` (the window: `1 <= kernel_size`, `kernel_size * dilation <=
length`), `stride=1` (`1 <= stride <= kernel_size`), `dilation=1`, `is_causal=false`:
one value, or a tuple with one per axis, W first. `scale=nothing` is `head_dim^-1/2`.
`grid_length`, `query_begin`, `key_begin`: the arrays are a part of a larger grid.
`backend=:auto`, `:cpu`, `:reference` or, on a GPU, `:cuda`. `device=:cpu`, or `:cuda`,
`"cuda:1"`, ...: a GPU to which the arrays are sent and from which the results are
fetched, in slabs."""

"""
    neighborhood_attention(query, key, value; kernel_size, stride=1, dilation=1,
        is_causal=false, scale=nothing, bias=nothing, additional_keys=nothing,
        additional_values=nothing, return_lse=false, grid_length=nothing,
        query_begin=nothing, key_begin=nothing, backend=:auto, device=:cpu)

Each query attends to the window of keys around it: `out`, or `(out, lse)` with
`return_lse`.

- `query`: `(head_dim, heads, W, H, batch)`, with one axis for 1-D, three for 3-D
- `key`, `value`: `(head_dim, heads_kv, W, H, batch)`; `heads` is a multiple of
  `heads_kv`, and the head dim of value may be another one
- `bias`: `(2kw - 1, 2kh - 1, heads)`, added to the logits by relative position
- `additional_keys`, `additional_values`: `(head_dim, heads_kv, tokens, batch)`, tokens
  that every query sees
- `out`: `(head_dim_v, heads, W, H, batch)`; `lse`: `(heads, W, H, batch)`, the natural
  log-sum-exp of the logits

Arrays of `Float64`, `Float32`, `Float16` or bfloat16, all alike; bias and lse are
`Float64` for `Float64` and `Float32` for the others. Anything with strides is used
where it lies: arrays, views, `PermutedDimsArray`s.

$OPTIONS_DOC

The form `neighborhood_attention(query, key, value, bias, additional_keys,
additional_values; ...)`, from the right with some left out, is for automatic
differentiation, which sees positional arguments only.
"""
function neighborhood_attention(query, key, value; bias = nothing,
        additional_keys = nothing, additional_values = nothing, return_lse = false,
        device = :cpu, kw...)
    return attend(options(rank("query", query); kw...), return_lse, query, key, value,
        bias, additional_keys, additional_values, device)
end

neighborhood_attention(query, key, value, bias, additional_keys = nothing,
                       additional_values = nothing; kw...) =
    neighborhood_attention(query, key, value; bias = bias,
        additional_keys = additional_keys, additional_values = additional_values, kw...)

"""
    neighborhood_attention!(out, query, key, value; kernel_size, ...) -> out
    neighborhood_attention!(out, lse, query, key, value; kernel_size, ...) -> (out, lse)

[`neighborhood_attention`](@ref) into arrays of yours.
"""
function neighborhood_attention!(out, query, key, value; kw...)
    neighborhood_attention!(out, nothing, query, key, value; kw...)
    return out
end

function neighborhood_attention!(out, lse, query, key, value; bias = nothing,
        additional_keys = nothing, additional_values = nothing, device = :cpu, kw...)
    params = options(rank("query", query); kw...)
    attend!(out, lse, params, query, key, value, bias, additional_keys,
        additional_values, device)
    return out, lse
end

# Into arrays of our own; a query of any number of axes comes to the library.
function attend(params, return_lse, query, key, value, bias, additional_keys,
                additional_values, device)
    tokens = size(query)[2:end]
    out = similar(query, size(wanted("value", value), 1), tokens...)
    lse = flag("return_lse", return_lse) ?
        similar(query, accumulator(eltype(query)), tokens) : nothing
    attend!(out, lse, params, query, key, value, bias, additional_keys,
        additional_values, device)
    return return_lse ? (out, lse) : out
end

function attend!(out, lse, params, query, key, value, bias, additional_keys,
                 additional_values, device)
    call_on(device, LibNATTEN.natten_forward, LibNATTEN.natten_forward_host, params,
        argument("query", query), argument("key", key), argument("value", value),
        argument("bias", bias), argument("additional_keys", additional_keys),
        argument("additional_values", additional_values),
        argument("out", out), argument("lse", lse))
end

const ATTENTION_GRADIENTS = (:grad_query, :grad_key, :grad_value, :grad_bias,
    :grad_additional_keys, :grad_additional_values)

"""
    ∇neighborhood_attention(grad_out, query, key, value, out, lse; kernel_size, ...,
        bias=nothing, additional_keys=nothing, additional_values=nothing,
        grad_lse=nothing)

Gradients of [`neighborhood_attention`](@ref), as a named tuple `(grad_query, grad_key,
grad_value, grad_bias, grad_additional_keys, grad_additional_values)`; `nothing` for
what was not given. `out` and `lse` are forward's, or the merged ones of several parts;
options as in forward. The same call gives the same bits.
"""
function ∇neighborhood_attention(grad_out, query, key, value, out, lse; bias = nothing,
        additional_keys = nothing, additional_values = nothing, kw...)
    gradients = attention_gradients(query, key, value, bias, additional_keys,
        additional_values)
    return ∇neighborhood_attention!(gradients, grad_out, query, key, value, out, lse;
        bias = bias, additional_keys = additional_keys,
        additional_values = additional_values, kw...)
end

# Arrays for the gradients of all that is given.
attention_gradients(query, key, value, bias, additional_keys, additional_values) =
    NamedTuple{ATTENTION_GRADIENTS}((like(query), like(key), like(value),
        zeros_like(bias), like(additional_keys), like(additional_values)))

"""
    ∇neighborhood_attention!(gradients, grad_out, query, key, value, out, lse;
        kernel_size, ...)

[`∇neighborhood_attention`](@ref) into arrays of yours: `gradients` is a named tuple
with those that you want, such as `(grad_query = a, grad_key = b)`.
"""
function ∇neighborhood_attention!(gradients::NamedTuple, grad_out, query, key, value,
        out, lse; bias = nothing, additional_keys = nothing,
        additional_values = nothing, grad_lse = nothing, device = :cpu, kw...)
    pull_back!(gradients, options(rank("query", query); kw...), grad_out, query, key,
        value, out, lse, bias, additional_keys, additional_values, grad_lse, device)
    return gradients
end

function pull_back!(gradients, params, grad_out, query, key, value, out, lse, bias,
                    additional_keys, additional_values, grad_lse, device)
    check_gradients(gradients, ATTENTION_GRADIENTS)
    call_on(device, LibNATTEN.natten_backward, LibNATTEN.natten_backward_host, params,
        argument("query", query), argument("key", key), argument("value", value),
        argument("bias", bias), argument("additional_keys", additional_keys),
        argument("additional_values", additional_values),
        argument("out", out), argument("lse", lse), argument("grad_out", grad_out),
        argument("grad_lse", grad_lse),
        map(name -> gradient(gradients, name), ATTENTION_GRADIENTS)...)
end

# ---- attention without windows -------------------------------------------------------

"""
    attention(query, key, value; is_causal=false, scale=nothing, bias=nothing,
        additional_keys=nothing, additional_values=nothing, return_lse=false,
        backend=:auto, device=:cpu)

Every query `(head_dim, heads, queries, batch)` attends to every key `(head_dim,
heads_kv, keys, batch)`; numbers of queries and keys may differ, and causal is aligned
at their begin. `bias` is `(2 max(queries, keys) - 1, heads)`.
"""
function attention(query, key, value; bias = nothing, additional_keys = nothing,
        additional_values = nothing, return_lse = false, device = :cpu, kw...)
    return attend(one_window(query, key; kw...), return_lse, query, key, value, bias,
        additional_keys, additional_values, device)
end

"""
`attention!(out[, lse], query, key, value; ...)`: [`attention`](@ref) into arrays of
yours.
"""
function attention!(out, query, key, value; kw...)
    attention!(out, nothing, query, key, value; kw...)
    return out
end

function attention!(out, lse, query, key, value; bias = nothing,
        additional_keys = nothing, additional_values = nothing, device = :cpu, kw...)
    attend!(out, lse, one_window(query, key; kw...), query, key, value, bias,
        additional_keys, additional_values, device)
    return out, lse
end

"""
`∇attention(grad_out, query, key, value, out, lse; ...)`: gradients of
[`attention`](@ref).
"""
function ∇attention(grad_out, query, key, value, out, lse; bias = nothing,
        additional_keys = nothing, additional_values = nothing, kw...)
    gradients = attention_gradients(query, key, value, bias, additional_keys,
        additional_values)
    return ∇attention!(gradients, grad_out, query, key, value, out, lse; bias = bias,
        additional_keys = additional_keys, additional_values = additional_values, kw...)
end

"`∇attention!(gradients, ...)`: [`∇attention`](@ref) into arrays of yours."
function ∇attention!(gradients::NamedTuple, grad_out, query, key, value, out, lse;
        bias = nothing, additional_keys = nothing, additional_values = nothing,
        grad_lse = nothing, device = :cpu, kw...)
    pull_back!(gradients, one_window(query, key; kw...), grad_out, query, key, value,
        out, lse, bias, additional_keys, additional_values, grad_lse, device)
    return gradients
end

# docs/definition.md, section 8b: one window over a grid of that length, which has one
# axis whatever the arrays say, so that the library refuses those of a picture.
function one_window(query, key; is_causal = false, scale = nothing, backend = :auto)
    len = LibNATTEN.natten_attention_length(size(wanted("query", query), 3),
        size(wanted("key", key), 3))
    return options(1; kernel_size = len, grid_length = len, is_causal = is_causal,
        scale = scale, backend = backend)
end

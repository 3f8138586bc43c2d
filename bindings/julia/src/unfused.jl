# SPDX-License-Identifier: MIT
#
# The unfused pair: logits of each window, and weights times values, with the gradients
# of both.  For a softmax of one's own and for looking at attention maps.

"""
    neighborhood_qk(query, key; kernel_size, stride=1, dilation=1, is_causal=false,
        scale=1, bias=nothing, additional_keys=nothing, grid_length=nothing,
        query_begin=nothing, key_begin=nothing, backend=:auto)

Logits `attn` of each query's window, `(slots, heads, W, H, batch)`: a slot per key, W
fastest, then the additional keys; a slot without a key holds `-Inf`. Arguments as for
[`neighborhood_attention`](@ref).
"""
function neighborhood_qk(query, key; bias = nothing, additional_keys = nothing, kw...)
    params = options(rank("query", query); kw...)
    # Ask first: a wrong kernel_size must not become the size of an array.
    check(LibNATTEN.natten_supported(params, LibNATTEN.NATTEN_QK,
        argument("query", query), argument("key", key), C_NULL,
        argument("additional_keys", additional_keys)), "natten_qk")
    slots = Ref{Int64}()
    check(LibNATTEN.natten_attn_slots(params,
        argument("additional_keys", additional_keys), slots), "natten_qk")
    attn = similar(query, slots[], Base.tail(size(query))...)
    weigh!(attn, params, query, key, bias, additional_keys)
    return attn
end

"""
`neighborhood_qk!(attn, query, key; ...)`: [`neighborhood_qk`](@ref) into an array of
yours.
"""
function neighborhood_qk!(attn, query, key; bias = nothing, additional_keys = nothing,
                          kw...)
    weigh!(attn, options(rank("query", query); kw...), query, key, bias,
        additional_keys)
    return attn
end

function weigh!(attn, params, query, key, bias, additional_keys)
    call(LibNATTEN.natten_qk, params, argument("query", query), argument("key", key),
        argument("bias", bias), argument("additional_keys", additional_keys),
        argument("attn", attn), NO_WORKSPACE...)
end

const QK_GRADIENTS = (:grad_query, :grad_key, :grad_bias, :grad_additional_keys)

"""
    ∇neighborhood_qk(grad_attn, query, key; kernel_size, ..., bias=nothing,
        additional_keys=nothing)

Gradients of [`neighborhood_qk`](@ref), as a named tuple `(grad_query, grad_key,
grad_bias, grad_additional_keys)`; `nothing` for what was not given. Of `bias` only the
shape is used. Entries of `grad_attn` in empty slots are not read.
"""
function ∇neighborhood_qk(grad_attn, query, key; bias = nothing,
                          additional_keys = nothing, kw...)
    gradients =
        NamedTuple{QK_GRADIENTS}((like(query), like(key), zeros_like(bias),
            like(additional_keys)))
    return ∇neighborhood_qk!(gradients, grad_attn, query, key;
        additional_keys = additional_keys, kw...)
end

"""
    ∇neighborhood_qk!(gradients, grad_attn, query, key; kernel_size, ...)

[`∇neighborhood_qk`](@ref) into arrays of yours, those that the named tuple holds.
"""
function ∇neighborhood_qk!(gradients::NamedTuple, grad_attn, query, key;
                           additional_keys = nothing, kw...)
    check_gradients(gradients, QK_GRADIENTS)
    call(LibNATTEN.natten_qk_backward, options(rank("query", query); kw...),
        argument("query", query), argument("key", key),
        argument("additional_keys", additional_keys), argument("grad_attn", grad_attn),
        map(name -> gradient(gradients, name), QK_GRADIENTS)..., NO_WORKSPACE...)
    return gradients
end

"""
    neighborhood_av(attn, value; kernel_size, ..., additional_values=nothing)

Weights `attn`, `(slots, heads, W, H, batch)`, times the values of each query's window:
`(head_dim_v, heads, W, H, batch)`. Weights in empty slots are not read. Arguments and
options as for [`neighborhood_qk`](@ref).
"""
function neighborhood_av(attn, value; additional_values = nothing, kw...)
    params = options(rank("attn", attn); kw...)
    out = similar(attn, size(wanted("value", value), 1), Base.tail(size(attn))...)
    gather!(out, params, attn, value, additional_values)
    return out
end

"""
`neighborhood_av!(out, attn, value; ...)`: [`neighborhood_av`](@ref) into an array of
yours.
"""
function neighborhood_av!(out, attn, value; additional_values = nothing, kw...)
    gather!(out, options(rank("attn", attn); kw...), attn, value, additional_values)
    return out
end

function gather!(out, params, attn, value, additional_values)
    call(LibNATTEN.natten_av, params, argument("attn", attn), argument("value", value),
        argument("additional_values", additional_values), argument("out", out),
        NO_WORKSPACE...)
end

const AV_GRADIENTS = (:grad_attn, :grad_value, :grad_additional_values)

"""
    ∇neighborhood_av(grad_out, attn, value; kernel_size, ..., additional_values=nothing)

Gradients of [`neighborhood_av`](@ref), as a named tuple `(grad_attn, grad_value,
grad_additional_values)`; `grad_attn` is 0 in empty slots.
"""
function ∇neighborhood_av(grad_out, attn, value; additional_values = nothing, kw...)
    gradients = NamedTuple{AV_GRADIENTS}(map(like, (attn, value, additional_values)))
    return ∇neighborhood_av!(gradients, grad_out, attn, value;
        additional_values = additional_values, kw...)
end

"""
    ∇neighborhood_av!(gradients, grad_out, attn, value; kernel_size, ...)

[`∇neighborhood_av`](@ref) into arrays of yours, those that the named tuple holds.
"""
function ∇neighborhood_av!(gradients::NamedTuple, grad_out, attn, value;
                           additional_values = nothing, kw...)
    check_gradients(gradients, AV_GRADIENTS)
    call(LibNATTEN.natten_av_backward, options(rank("attn", attn); kw...),
        argument("attn", attn), argument("value", value),
        argument("additional_values", additional_values),
        argument("grad_out", grad_out),
        map(name -> gradient(gradients, name), AV_GRADIENTS)..., NO_WORKSPACE...)
    return gradients
end

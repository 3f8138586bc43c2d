# SPDX-License-Identifier: MIT
#
# Neighborhood attention written straight from docs/definition.md, pair by pair, in
# Float64 and in the arrays' own order: what the tests hold the package against.  Shares
# nothing with the library but the definition.
module Oracle

# One axis of the grid (definition, sections 3 and 13); tokens count from 0 as there.
struct Axis
    length::Int
    window::Int
    stride::Int
    dilation::Int
    causal::Bool
    query_begin::Int
    key_begin::Int
    keys::Int
end

"The key token in each slot of the window of query token `i`; -1 where there is none."
function window(a::Axis, i)
    class, g = i % a.dilation, i ÷ a.dilation
    n = cld(a.length - class, a.dilation)
    block = a.stride * (g ÷ a.stride)
    if a.causal
        leader = min(block + a.stride - 1, n - 1)
        first, stop = max(leader - a.window + 1, 0), g + 1
    else
        leader = min(block + a.stride ÷ 2, n - 1)
        first = clamp(leader - a.window ÷ 2, 0, n - a.window)
        stop = first + a.window
    end
    return map(0:a.window-1) do slot
        token = class + (first + slot) * a.dilation
        here = first + slot < stop && a.key_begin <= token < a.key_begin + a.keys
        here ? token : -1
    end
end

"(slot, index of the key, index of the bias) for each key that the query at `x` sees."
function links(axes, x::CartesianIndex)
    slots = CartesianIndices(Tuple(a.window for a in axes))
    queries = [a.query_begin + x[i] - 1 for (i, a) in enumerate(axes)]
    windows = [window(a, queries[i]) for (i, a) in enumerate(axes)]
    found = Tuple{Int,CartesianIndex,CartesianIndex}[]
    for (number, slot) in enumerate(slots)
        tokens = [windows[i][slot[i]] for i in eachindex(windows)]
        any(tokens .< 0) && continue
        key = CartesianIndex((tokens[i] - a.key_begin + 1
                              for (i, a) in enumerate(axes))...)
        entry = CartesianIndex(((tokens[i] - queries[i]) ÷ a.dilation + a.window
                                for (i, a) in enumerate(axes))...)
        push!(found, (number, key, entry))
    end
    return found
end

grid(array) = CartesianIndices(size(array)[3:end-1])
group(h, heads, heads_kv) = (h - 1) ÷ (heads ÷ heads_kv) + 1
slots(axes) = prod(a.window for a in axes)
extras(::Nothing) = 0
extras(tokens) = size(tokens, 3)
zeros_like(::Nothing) = nothing
zeros_like(a) = zeros(size(a))
wide(::Nothing) = nothing
wide(a) = Float64.(a)

# Calls f(batch, head, group, x, links) for every query.
function each_query(f, axes, array, heads, heads_kv)
    for x in grid(array)
        seen = links(axes, x)
        for b in 1:size(array)[end], h in 1:heads
            f(b, h, group(h, heads, heads_kv), x, seen)
        end
    end
end

function qk(q, k, axes; scale = 1.0, bias = nothing, additional_keys = nothing)
    q, k, bias, ak = wide(q), wide(k), wide(bias), wide(additional_keys)
    attn = fill(-Inf, slots(axes) + extras(ak), Base.tail(size(q))...)
    each_query(axes, q, size(q, 2), size(k, 2)) do b, h, g, x, seen
        for (slot, key, entry) in seen
            attn[slot, h, x, b] = scale * sum(q[:, h, x, b] .* k[:, g, key, b]) +
                                  (bias === nothing ? 0.0 : bias[entry, h])
        end
        for m in 1:extras(ak)
            attn[slots(axes)+m, h, x, b] = scale * sum(q[:, h, x, b] .* ak[:, g, m, b])
        end
    end
    return attn
end

function ∇qk(d_attn, q, k, axes; scale = 1.0, bias = nothing, additional_keys = nothing)
    d_attn, q, k, ak = wide(d_attn), wide(q), wide(k), wide(additional_keys)
    dq, dk, dbias, dak = zeros_like(q), zeros_like(k), zeros_like(bias), zeros_like(ak)
    each_query(axes, q, size(q, 2), size(k, 2)) do b, h, g, x, seen
        for (slot, key, entry) in seen
            ds = d_attn[slot, h, x, b]
            dq[:, h, x, b] .+= scale * ds * k[:, g, key, b]
            dk[:, g, key, b] .+= scale * ds * q[:, h, x, b]
            dbias === nothing || (dbias[entry, h] += ds)
        end
        for m in 1:extras(ak)
            ds = d_attn[slots(axes)+m, h, x, b]
            dq[:, h, x, b] .+= scale * ds * ak[:, g, m, b]
            dak[:, g, m, b] .+= scale * ds * q[:, h, x, b]
        end
    end
    return dq, dk, dbias, dak
end

function av(attn, v, axes; additional_values = nothing)
    attn, v, av = wide(attn), wide(v), wide(additional_values)
    out = zeros(size(v, 1), Base.tail(size(attn))...)
    each_query(axes, attn, size(attn, 2), size(v, 2)) do b, h, g, x, seen
        for (slot, key, _) in seen
            out[:, h, x, b] .+= attn[slot, h, x, b] * v[:, g, key, b]
        end
        for m in 1:extras(av)
            out[:, h, x, b] .+= attn[slots(axes)+m, h, x, b] * av[:, g, m, b]
        end
    end
    return out
end

function ∇av(d_out, attn, v, axes; additional_values = nothing)
    d_out, attn, v, av = wide(d_out), wide(attn), wide(v), wide(additional_values)
    dattn, dv, dav = zeros_like(attn), zeros_like(v), zeros_like(av)
    each_query(axes, attn, size(attn, 2), size(v, 2)) do b, h, g, x, seen
        for (slot, key, _) in seen
            dattn[slot, h, x, b] = sum(d_out[:, h, x, b] .* v[:, g, key, b])
            dv[:, g, key, b] .+= attn[slot, h, x, b] * d_out[:, h, x, b]
        end
        for m in 1:extras(av)
            slot = slots(axes) + m
            dattn[slot, h, x, b] = sum(d_out[:, h, x, b] .* av[:, g, m, b])
            dav[:, g, m, b] .+= attn[slot, h, x, b] * d_out[:, h, x, b]
        end
    end
    return dattn, dv, dav
end

function forward(q, k, v, axes; scale = nothing, bias = nothing,
                 additional_keys = nothing, additional_values = nothing)
    scale = something(scale, size(q, 1)^-0.5)
    logits = qk(q, k, axes; scale = scale, bias = bias,
        additional_keys = additional_keys)
    top = max.(maximum(logits; dims = 1), -floatmax())
    lse = top .+ log.(sum(exp.(logits .- top); dims = 1))
    out = av(weights(logits, lse), v, axes; additional_values = additional_values)
    return out, dropdims(lse; dims = 1)
end

# P of section 7; a row that sees nothing has none.
weights(logits, lse) = ifelse.(isinf.(lse), 0.0, exp.(logits .- lse))

"Gradients of forward from `out` and `lse` as they are passed in (section 7)."
function backward(d_out, q, k, v, out, lse, axes; d_lse = nothing, scale = nothing,
                  bias = nothing, additional_keys = nothing,
                  additional_values = nothing)
    scale = something(scale, size(q, 1)^-0.5)
    d_out, out = wide(d_out), wide(out)
    row(a) = reshape(a, 1, size(a)...)
    logits = qk(q, k, axes; scale = scale, bias = bias,
        additional_keys = additional_keys)
    p = weights(logits, row(wide(lse)))
    dp, dv, dav = ∇av(d_out, p, v, axes; additional_values = additional_values)
    delta = sum(d_out .* out; dims = 1)
    ds = p .* (dp .- delta .+ (d_lse === nothing ? 0.0 : row(wide(d_lse))))
    dq, dk, dbias, dak = ∇qk(ds, q, k, axes; scale = scale, bias = bias,
        additional_keys = additional_keys)
    return dq, dk, dv, dbias, dak, dav
end

end # module

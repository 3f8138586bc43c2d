# SPDX-License-Identifier: MIT
#
# Problems as text (docs/problem-text.md): reading a line, making its data, computing it
# with the package and with the oracle.  Four languages read the same lines; per-axis
# values stand in C's order there and are reversed here once.
module ProblemText

using NATTEN
using ..Oracle

const TYPES = Dict("fp64" => Float64, "fp32" => Float32, "fp16" => Float16,
                   "bf16" => NATTEN.BFloat16)
# The order of natten_role.
const ROLES = Dict(:query => 0, :key => 1, :value => 2, :bias => 3,
    :additional_keys => 4, :additional_values => 5, :attn => 6, :grad_attn => 9,
    :grad_out => 10, :grad_lse => 11)

struct Problem
    operation::String
    type::Type
    batch::Int
    heads::Tuple{Int,Int}
    head_dim::Tuple{Int,Int}
    queries::Tuple{Vararg{Int}}
    keys::Tuple{Vararg{Int}}
    extras::Int
    bias::Bool
    grad_lse::Bool
    seed::Int
    options::NamedTuple
end

per_axis(text) = Tuple(reverse(parse.(Int, split(text, 'x'))))
pair(text) = (p = parse.(Int, split(text, ':')); (first(p), last(p)))

# Token patterns in the order in which they are tried: words before single letters.
# tf32 is a permission that a CPU makes no use of.
const TOKENS = [
    r"^(causal)([01]+)$", r"^(scale)(.+)$", r"^(seed)(\d+)$", r"^(bias)()$",
    r"^(dlse)()$", r"^(tf32)()$", r"^([bhdwsemgqkn])([\dx:]+)$", r"^()(\d[\dx]*)$",
]

function parse_problem(line)
    words = split(line)
    given = Dict{String,String}()
    for word in words[3:end]
        matches = [m for m in match.(TOKENS, word) if m !== nothing]
        isempty(matches) && error("problem text: '$word' in '$line'")
        given[matches[1][1]] = matches[1][2]
    end
    queries = per_axis(given[""])
    part(letter) = haskey(given, letter) ? per_axis(given[letter]) : nothing
    options = (
        kernel_size = per_axis(given["w"]),
        stride = haskey(given, "s") ? per_axis(given["s"]) : 1,
        dilation = haskey(given, "e") ? per_axis(given["e"]) : 1,
        is_causal = haskey(given, "causal") ?
            Tuple(reverse([c == '1' for c in given["causal"]])) : false,
        scale = haskey(given, "scale") ? parse(Float64, given["scale"]) : nothing,
        grid_length = part("g"), query_begin = part("q"), key_begin = part("k"),
    )
    return Problem(words[1], TYPES[words[2]], parse(Int, given["b"]), pair(given["h"]),
        pair(given["d"]), queries, something(part("n"), queries),
        parse(Int, get(given, "m", "0")), haskey(given, "bias"), haskey(given, "dlse"),
        parse(Int, get(given, "seed", "1")), options)
end

"An array filled in the order of its memory by the generator of docs/problem-text.md."
function data(p::Problem, role, dims...)
    T = role in (:bias, :grad_lse) ? NATTEN.accumulator(p.type) : p.type
    x = (p.seed * 1000003 + ROLES[role] * 7919 + 1) % 2147483647
    x = x == 0 ? 1 : x
    array = Array{T}(undef, dims...)
    for i in eachindex(array)
        x = (48271 * x) % 2147483647
        array[i] = T((x ÷ 8388608 - 128) / 64)
    end
    return array
end

query(p) = data(p, :query, p.head_dim[1], p.heads[1], p.queries..., p.batch)
key(p) = data(p, :key, p.head_dim[1], p.heads[2], p.keys..., p.batch)
value(p) = data(p, :value, p.head_dim[2], p.heads[2], p.keys..., p.batch)
function attn(p, role = :attn)
    slots = prod(p.options.kernel_size) + p.extras
    return data(p, role, slots, p.heads[1], p.queries..., p.batch)
end
grad_out(p) = data(p, :grad_out, p.head_dim[2], p.heads[1], p.queries..., p.batch)
grad_lse(p) =
    p.grad_lse ? data(p, :grad_lse, p.heads[1], p.queries..., p.batch) : nothing
bias(p) =
    p.bias ? data(p, :bias, (2 .* p.options.kernel_size .- 1)..., p.heads[1]) : nothing
additional_keys(p) = p.extras == 0 ? nothing :
    data(p, :additional_keys, p.head_dim[1], p.heads[2], p.extras, p.batch)
additional_values(p) = p.extras == 0 ? nothing :
    data(p, :additional_values, p.head_dim[2], p.heads[2], p.extras, p.batch)

all_tensors(p) = (bias = bias(p), additional_keys = additional_keys(p),
                  additional_values = additional_values(p))

"The results of a problem from the package, in the order in which they are compared."
function compute(p::Problem; more...)
    results = compute_all(p; p.options..., more...)
    return [r for r in results if r !== nothing]
end

function compute_all(p; kw...)
    if p.operation == "fwd"
        return neighborhood_attention(query(p), key(p), value(p);
            return_lse = true, all_tensors(p)..., kw...)
    elseif p.operation == "bwd"
        q, k, v, tensors = query(p), key(p), value(p), all_tensors(p)
        out, lse = neighborhood_attention(q, k, v; return_lse = true, tensors..., kw...)
        grads = ∇neighborhood_attention(grad_out(p), q, k, v, out, lse;
            grad_lse = grad_lse(p), tensors..., kw...)
        return (out, lse, grads...)
    elseif p.operation == "qk"
        return (neighborhood_qk(query(p), key(p);
            bias = bias(p), additional_keys = additional_keys(p), kw...),)
    elseif p.operation == "qkbwd"
        return Tuple(∇neighborhood_qk(attn(p, :grad_attn), query(p), key(p);
            bias = bias(p), additional_keys = additional_keys(p), kw...))
    elseif p.operation == "av"
        return (neighborhood_av(attn(p), value(p);
            additional_values = additional_values(p), kw...),)
    elseif p.operation == "avbwd"
        return Tuple(∇neighborhood_av(grad_out(p), attn(p), value(p);
            additional_values = additional_values(p), kw...))
    end
    error("problem text: operation '$(p.operation)'")
end

function oracle_axes(p)
    o, n = p.options, length(p.queries)
    each(x, i) = x isa Tuple ? x[i] : x
    return Tuple(Oracle.Axis(
        something(o.grid_length, p.queries)[i], o.kernel_size[i], each(o.stride, i),
        each(o.dilation, i), each(o.is_causal, i),
        something(o.query_begin, zeros(Int, n))[i],
        something(o.key_begin, zeros(Int, n))[i], p.keys[i]) for i in 1:n)
end

"""
The same results from the oracle; backward from `given`, the package's own out and lse.
"""
function expect(p::Problem, given)
    axes, o = oracle_axes(p), p.options
    logit_scale = something(o.scale, 1.0)
    results = if p.operation == "fwd"
        Oracle.forward(query(p), key(p), value(p), axes; scale = o.scale,
            all_tensors(p)...)
    elseif p.operation == "bwd"
        forward = Oracle.forward(query(p), key(p), value(p), axes;
            scale = o.scale, all_tensors(p)...)
        (forward..., Oracle.backward(grad_out(p), query(p), key(p), value(p), given[1],
            given[2], axes; d_lse = grad_lse(p), scale = o.scale, all_tensors(p)...)...)
    elseif p.operation == "qk"
        (Oracle.qk(query(p), key(p), axes; scale = logit_scale, bias = bias(p),
            additional_keys = additional_keys(p)),)
    elseif p.operation == "qkbwd"
        Oracle.∇qk(attn(p, :grad_attn), query(p), key(p), axes; scale = logit_scale,
            bias = bias(p), additional_keys = additional_keys(p))
    elseif p.operation == "av"
        (Oracle.av(attn(p), value(p), axes; additional_values = additional_values(p)),)
    else
        Oracle.∇av(grad_out(p), attn(p), value(p), axes;
            additional_values = additional_values(p))
    end
    return [r for r in results if r !== nothing]
end

roundoff(::Type{Float64}) = 2.0^-53
roundoff(::Type{Float32}) = 2.0^-24
roundoff(::Type{Float16}) = 2.0^-11
roundoff(::Type{NATTEN.BFloat16}) = 2.0^-8

"""
Whether `got` is `want` but for rounding. With data in [-2, 2) and at most a few
thousand terms in a sum, 2000 roundoffs of the accumulator bound the work and one of the
element type the storing. That is enough to see any wrong wiring; how exact the library
is, the tests of the core judge.
"""
function close(got::AbstractArray{T}, want) where {T}
    size(got) == size(want) || return false
    gap = 2000 * roundoff(NATTEN.accumulator(T)) * largest(want)
    return all(zip(Float64.(got), want)) do (a, b)
        isfinite(b) ? abs(a - b) <= gap + roundoff(T) * abs(b) : a === b
    end
end

largest(array) = mapreduce(x -> isfinite(x) ? abs(x) : 0.0, max, array; init = 0.0)

"(line number, problem) of each problem in a file of tests/cases."
function read_cases(path)
    lines = enumerate(strip.(readlines(path)))
    return [(i, parse_problem(line)) for (i, line) in lines
            if !isempty(line) && !startswith(line, '#')]
end

end # module

# SPDX-License-Identifier: MIT
#
# From keywords to natten_params.  Defaults are the library's own: a keyword that is not
# given leaves what natten_params_init() wrote, and values go over unjudged.

"""
    options(rank; kernel_size, stride=1, dilation=1, is_causal=false, scale=nothing,
            grid_length=nothing, query_begin=nothing, key_begin=nothing, backend=:auto)

The `natten_params` of a call on a grid of `rank` axes.
"""
function options(rank; kernel_size, stride = 1, dilation = 1, is_causal = false,
                 scale = nothing, grid_length = nothing, query_begin = nothing,
                 key_begin = nothing, backend = :auto)
    defaults = Ref{LibNATTEN.natten_params}()
    check(LibNATTEN.natten_params_init(defaults, sizeof(LibNATTEN.natten_params), rank))
    wanted = (
        backend = Int32(member(BACKENDS, "backend", backend)),
        has_scale = Int32(scale !== nothing),
        scale = scale === nothing ? defaults[].scale : real_number("scale", scale),
        kernel_size = per_axis("kernel_size", kernel_size, rank),
        stride = per_axis("stride", stride, rank),
        dilation = per_axis("dilation", dilation, rank),
        is_causal = per_axis("is_causal", is_causal, rank),
        grid_length = per_axis("grid_length", grid_length, rank),
        query_begin = per_axis("query_begin", query_begin, rank),
        key_begin = per_axis("key_begin", key_begin, rank),
    )
    return Ref(replace_fields(defaults[], wanted))
end

"Axes of the grid of an argument that has head_dim, heads and batch around them."
function rank(name, a)
    axes = ndims(wanted(name, a)) - 3
    1 <= axes <= LibNATTEN.NATTEN_MAX_RANK && return axes
    throw(DimensionMismatch(
        "$name.ndim=$(ndims(a)) not in [4, $(LibNATTEN.NATTEN_MAX_RANK + 3)]"))
end

# A value per axis in C's order, padded to the three that the struct has room for.
per_axis(name, ::Nothing, rank) = nothing
function per_axis(name, value::Integer, rank)
    whole = integer(Int64, name, value)
    return (whole, whole, whole)
end
const Integers = Union{Tuple{Vararg{Integer}},AbstractVector{<:Integer}}
function per_axis(name, values::Integers, rank)
    length(values) == rank || throw(DimensionMismatch(
        "$name: $(length(values)) values for a grid of $rank axes"))
    return ntuple(i -> i <= rank ? integer(Int64, name, values[end-i+1]) : Int64(0), 3)
end
per_axis(name, value, rank) =
    throw(ArgumentError("$name: an integer or one per axis is wanted, not $value"))

# `value` as a number of the type that C takes.
function integer(T, name, value::Integer)
    typemin(T) <= value <= typemax(T) && return T(value)
    throw(ArgumentError("$name=$value not in [$(typemin(T)), $(typemax(T))]"))
end
integer(T, name, value) =
    throw(ArgumentError("$name: an integer is wanted, not $value"))
real_number(name, value::Real) = Float64(value)
real_number(name, value) = throw(ArgumentError(
    "$name: a finite number or nothing is wanted, not $(repr(value))"))

flag(name, value::Bool) = value
flag(name, value) =
    throw(ArgumentError("$name: true or false is wanted, not $(repr(value))"))

# `old` with the fields that `new` names; nothing leaves a field as it was.
function replace_fields(old::T, new::NamedTuple) where {T}
    field(name) = something(get(new, name, nothing), getfield(old, name))
    return T(map(field, fieldnames(T))...)
end

# The members of a C enum by the symbols that stand for them here: NATTEN_BACKEND_CPU is
# :cpu, NATTEN_QK is :qk.
function members(enum, prefix)
    symbol(m) = Symbol(lowercase(string(m)[length(prefix)+1:end]))
    return Dict(symbol(m) => m for m in instances(enum))
end
const BACKENDS = members(LibNATTEN.natten_backend, "NATTEN_BACKEND_")
const OPERATIONS = members(LibNATTEN.natten_operation, "NATTEN_")

function member(table, name, symbol::Symbol)
    haskey(table, symbol) && return table[symbol]
    known = join(sort!([repr(s) for s in keys(table)]), ", ")
    throw(ArgumentError("$name=$(repr(symbol)) is none of $known"))
end
member(table, name, other) =
    throw(ArgumentError("$name: a symbol is wanted, not $other"))

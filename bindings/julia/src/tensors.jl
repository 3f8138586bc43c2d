# SPDX-License-Identifier: MIT
#
# How an array crosses to C: as a natten_tensor that points to the array's own memory,
# with size and strides reversed, because C names axes outermost first.  Nothing is
# copied; an array without one memory and regular strides is refused.

"""
    NATTEN.dtype(T) -> (code, bits)

How elements of type `T` are called in a `natten_tensor`; `nothing` if they can't be.
"""
dtype(::Type{Float64}) = (LibNATTEN.NATTEN_FLOAT, 64)
dtype(::Type{Float32}) = (LibNATTEN.NATTEN_FLOAT, 32)
dtype(::Type{Float16}) = (LibNATTEN.NATTEN_FLOAT, 16)
dtype(::Type{BFloat16}) = (LibNATTEN.NATTEN_BFLOAT, 16)
function dtype(T::Type)
    alike = isprimitivetype(T) && sizeof(T) == 2 && nameof(T) === :BFloat16
    return alike ? (LibNATTEN.NATTEN_BFLOAT, 16) : nothing
end

"Type of lse and bias that goes with elements of type `T`."
accumulator(::Type{Float64}) = Float64
accumulator(::Type) = Float32

# One argument of a call: the C struct and all that its pointers reach.  ccall keeps
# what cconvert returns alive until the C function is back, so an Argument keeps its
# array, shape and strides alive, too, with no GC.@preserve at any call.
mutable struct Argument
    tensor::LibNATTEN.natten_tensor # first: a pointer to the object points to it
    array::Any
    shape::Vector{Int64}
    strides::Vector{Int64}
end

"The array `a` as an argument called `name`; `nothing` is C's NULL."
function argument(name, a::AbstractArray{T}) where {T}
    type = dtype(T)
    type === nothing && throw(ArgumentError(
        "$name: elements of type $T, not Float64, Float32, Float16 or BFloat16"))
    data, steps = memory(name, a)
    shape = Int64[size(a, i) for i in ndims(a):-1:1]
    strides = Int64[steps[i] for i in ndims(a):-1:1]
    tensor = LibNATTEN.natten_tensor(data, Int32(LibNATTEN.NATTEN_CPU), 0, ndims(a),
        UInt8(type[1]), type[2], 1, pointer(shape), pointer(strides), 0)
    return Argument(tensor, a, shape, strides)
end
argument(name, ::Nothing) = C_NULL
argument(name, a) = wanted(name, a)

"The argument called `name`, which must be an array."
wanted(name, a::AbstractArray) = a
wanted(name, a) =
    throw(ArgumentError("$name: an array is wanted, not a $(typeof(a))"))

# Address and strides, of anything that has them: Array, views, reshaped and permuted
# arrays.
function memory(name, a::AbstractArray{T}) where {T}
    try
        return Ptr{Cvoid}(Base.unsafe_convert(Ptr{T}, a)), strides(a)
    catch problem
        problem isa Union{MethodError,ErrorException,ArgumentError} || rethrow()
        throw(ArgumentError(
            "$name: a $(typeof(a)) has no memory with strides; pass collect($name)"))
    end
end

Base.cconvert(::Type{Ptr{LibNATTEN.natten_tensor}}, a::Argument) = a
Base.unsafe_convert(P::Type{Ptr{LibNATTEN.natten_tensor}}, a::Argument) =
    P(pointer_from_objref(a))

# Several arrays as one C array of tensors, for merging.
struct ArgumentList
    tensors::Vector{LibNATTEN.natten_tensor}
    members::Vector{Argument}
end

function argument_list(name, arrays)
    members = Argument[argument("$name[$i]", wanted("$name[$i]", a))
                         for (i, a) in enumerate(arrays)]
    return ArgumentList([m.tensor for m in members], members)
end

Base.cconvert(::Type{Ptr{LibNATTEN.natten_tensor}}, a::ArgumentList) = a
Base.unsafe_convert(::Type{Ptr{LibNATTEN.natten_tensor}}, a::ArgumentList) =
    pointer(a.tensors)

# SPDX-License-Identifier: MIT
#
# A storage type for bfloat16: Julia before 1.11 has none, and none does arithmetic
# without a package.  Conversions through Float32 are all that is needed to fill and
# read arrays. The library also takes arrays of any other 16-bit type called BFloat16
# (dtype, in tensors.jl), such as that of BFloat16s.jl.

"""
    NATTEN.BFloat16

The upper half of a `Float32`. Convert with `Float32(x)` and `NATTEN.BFloat16(x)`, which
rounds to nearest, ties to even.
"""
primitive type BFloat16 <: AbstractFloat 16 end

BFloat16(x::BFloat16) = x
BFloat16(x::Real) = BFloat16(Float32(x))

function BFloat16(x::Float32)
    bits = reinterpret(UInt32, x)
    # Rounding could carry a NaN's last bits away or into an infinity.
    isnan(x) && return reinterpret(BFloat16, (bits >> 16) % UInt16 | 0x0040)
    half_below_even = 0x7fff + ((bits >> 16) & 1)
    return reinterpret(BFloat16, ((bits + half_below_even) >> 16) % UInt16)
end

Base.Float32(x::BFloat16) = reinterpret(Float32, UInt32(reinterpret(UInt16, x)) << 16)
Base.Float64(x::BFloat16) = Float64(Float32(x))
Base.promote_rule(::Type{BFloat16}, ::Type{Float32}) = Float32
Base.promote_rule(::Type{BFloat16}, ::Type{Float64}) = Float64
Base.show(io::IO, x::BFloat16) = print(io, "BFloat16(", Float32(x), ")")

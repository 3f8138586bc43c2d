# SPDX-License-Identifier: MIT
#
# Reverse-mode rules for Zygote and whatever else reads ChainRulesCore (Julia 1.9 and
# newer load this file when both packages are there).
#
# Tested only against a stand-in with the five names that it uses (test/stand-in),
# because the test suite needs no network: not against ChainRulesCore itself.
#
# Keywords are constants to automatic differentiation.  A bias or additional tokens
# given as a keyword would silently get no gradient, so they are refused there: as
# positional arguments they are differentiated.
module NATTENChainRulesCoreExt

using NATTEN
using ChainRulesCore: ChainRulesCore, AbstractZero, NoTangent, unthunk

const TENSORS = (:bias, :additional_keys, :additional_values)

function ChainRulesCore.rrule(::typeof(neighborhood_attention), query, key, value,
                              rest::Vararg{Any,N}; return_lse = false, kw...) where {N}
    for name in TENSORS
        get(kw, name, nothing) === nothing || throw(ArgumentError(
            "$name as a keyword is a constant; give it as a positional argument: " *
            "neighborhood_attention(query, key, value, $(join(TENSORS, ", ")); ...)"))
    end
    tensors = NamedTuple{TENSORS[1:N]}(rest)
    out, lse = neighborhood_attention(query, key, value;
        return_lse = true, tensors..., kw...)

    function pullback(cotangent)
        d_out, d_lse = return_lse ? pair(unthunk(cotangent)) : (cotangent, nothing)
        grads = ∇neighborhood_attention(dense(d_out, out), query, key, value, out, lse;
            grad_lse = d_lse === nothing ? nothing : dense(d_lse, lse),
            tensors..., kw...)
        return (NoTangent(), map(tangent, Tuple(grads)[1:3+N])...)
    end
    return (return_lse ? (out, lse) : out), pullback
end

function ChainRulesCore.rrule(::typeof(merge_attentions), outputs::AbstractVector,
                              lses::AbstractVector)
    out, lse = merge_attentions(outputs, lses)
    function pullback(cotangent)
        d_out, d_lse = pair(unthunk(cotangent))
        grads = ∇merge_attentions(dense(d_out, out), outputs, lses, out, lse;
            grad_lse = dense(d_lse, lse))
        return NoTangent(), grads.grad_outputs, grads.grad_lses
    end
    return (out, lse), pullback
end

# The cotangent of (out, lse): a pair, or one zero for both.
pair(cotangent) = (cotangent[1], cotangent[2])
pair(zero::AbstractZero) = (zero, zero)

# A cotangent as an array with memory, of the type of `primal`: it may be a thunk, a
# zero, or an array that only pretends to have elements.
dense(cotangent, primal) = dense_array(unthunk(cotangent), primal)
dense_array(::Union{AbstractZero,Nothing}, primal) = fill!(similar(primal), 0)
dense_array(a::DenseArray{T}, ::AbstractArray{T}) where {T} = a
dense_array(a::AbstractArray, primal) = copyto!(similar(primal), a)

tangent(gradient) = gradient
tangent(::Nothing) = NoTangent()

end # module

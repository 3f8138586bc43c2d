# SPDX-License-Identifier: MIT
#
# Merging attentions of the same queries over disjoint sets of keys.

"""
    merge_attentions(outputs, lses) -> (out, lse)

What one attention over all keys together would have given: `outputs` and `lses` are
vectors (or tuples) of the results of the parts, a part without keys having lse `-Inf`.
"""
function merge_attentions(outputs, lses)
    check_partials(outputs, lses)
    return merge_attentions!(similar(wanted("outputs[1]", first(outputs))),
        similar(wanted("lses[1]", first(lses))), outputs, lses)
end

"""
`merge_attentions!(out, lse, outputs, lses)`: [`merge_attentions`](@ref) into arrays of
yours.
"""
function merge_attentions!(out, lse, outputs, lses)
    check_partials(outputs, lses)
    call(LibNATTEN.natten_merge, length(outputs), argument_list("outputs", outputs),
        argument_list("lses", lses), argument("out", out), argument("lse", lse), C_NULL)
    return out, lse
end

"""
    ∇merge_attentions(grad_out, outputs, lses, out, lse; grad_lse=nothing)

Gradients of [`merge_attentions`](@ref), as a named tuple `(grad_outputs, grad_lses)` of
vectors. `out` and `lse` are what merging gave.
"""
function ∇merge_attentions(grad_out, outputs, lses, out, lse; grad_lse = nothing)
    check_partials(outputs, lses)
    gradients = (grad_outputs = [like(a) for a in outputs],
                 grad_lses = [like(a) for a in lses])
    return ∇merge_attentions!(gradients, grad_out, outputs, lses, out, lse;
        grad_lse = grad_lse)
end

"""
    ∇merge_attentions!(gradients, grad_out, outputs, lses, out, lse; grad_lse=nothing)

[`∇merge_attentions`](@ref) into arrays of yours: `gradients` has both `grad_outputs`
and `grad_lses`.
"""
function ∇merge_attentions!(gradients::NamedTuple, grad_out, outputs, lses, out, lse;
                            grad_lse = nothing)
    check_gradients(gradients, (:grad_outputs, :grad_lses))
    check_partials(outputs, lses)
    check_partials(outputs, gradients.grad_outputs)
    check_partials(outputs, gradients.grad_lses)
    call(LibNATTEN.natten_merge_backward, length(outputs),
        argument_list("outputs", outputs), argument_list("lses", lses),
        argument("out", out), argument("lse", lse), argument("grad_out", grad_out),
        argument("grad_lse", grad_lse),
        argument_list("grad_outputs", gradients.grad_outputs),
        argument_list("grad_lses", gradients.grad_lses), C_NULL)
    return gradients
end

# C is told one length for all lists, so they must have one.
function check_partials(outputs, lses)
    isempty(outputs) && throw(ArgumentError("merge_attentions: no partials"))
    length(outputs) == length(lses) || throw(DimensionMismatch(
        "merge_attentions: lists of $(length(outputs)) and $(length(lses)) arrays"))
end

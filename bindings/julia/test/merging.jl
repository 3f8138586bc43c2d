# SPDX-License-Identifier: MIT
#
# Parts of a grid and merging them.

# A grid of 11 x 7 in two parts of its keys, W split at 6.
function split_keys(q, k, v; kw...)
    ranges = (1:6, 7:11)
    parts = [neighborhood_attention(q, k[:, :, r, :, :], v[:, :, r, :, :];
        return_lse = true, grid_length = (11, 7), key_begin = (first(r) - 1, 0), kw...)
        for r in ranges]
    return first.(parts), last.(parts)
end

@testset "two halves of the keys merge to the whole" begin
    q, k, v = randn(5, 4, 11, 7, 2), randn(5, 2, 11, 7, 2), randn(3, 2, 11, 7, 2)
    options = (kernel_size = (3, 3), dilation = (2, 1), is_causal = (false, true))
    outs, lses = split_keys(q, k, v; options...)
    @test any(lse -> any(isinf, lse), lses)
    whole, whole_lse = neighborhood_attention(q, k, v; return_lse = true, options...)
    out, lse = merge_attentions(outs, lses)
    @test ProblemText.close(out, whole)
    @test ProblemText.close(lse, whole_lse)
    into = (similar(out), similar(lse))
    @test merge_attentions!(into..., outs, lses) === into
    @test into == (out, lse)
    @test merge_attentions(Tuple(outs), Tuple(lses)) == (out, lse)
end

@testset "two halves of the queries are the whole, bit for bit" begin
    q, k, v = (randn(Float32, 5, 2, 11, 7, 1) for _ in 1:3)
    options = (kernel_size = (5, 3),)
    whole = neighborhood_attention(q, k, v; options...)
    # Query tokens 0 to 4 see keys 0 to 6, query tokens 5 to 10 see keys 3 to 10.
    for (queries, keys) in ((1:5, 1:7), (6:11, 4:11))
        part = neighborhood_attention(view(q, :, :, queries, :, :),
            view(k, :, :, keys, :, :),
            view(v, :, :, keys, :, :); grid_length = (11, 7),
            query_begin = (first(queries) - 1, 0), key_begin = (first(keys) - 1, 0),
            options...)
        @test part == whole[:, :, queries, :, :]
    end
end

@testset "gradients of merging are its derivatives" begin
    outs, lses = [randn(3, 2, 5, 1) for _ in 1:3], [randn(2, 5, 1) for _ in 1:3]
    d_out, d_lse = randn(3, 2, 5, 1), randn(2, 5, 1)
    function loss()
        out, lse = merge_attentions(outs, lses)
        return sum(out .* d_out) + sum(lse .* d_lse)
    end
    out, lse = merge_attentions(outs, lses)
    grads = ∇merge_attentions(d_out, outs, lses, out, lse; grad_lse = d_lse)
    for i in 1:3
        @test agrees(grads.grad_outputs[i], loss, outs[i])
        @test agrees(grads.grad_lses[i], loss, lses[i])
    end
end

@testset "merging parts that saw nothing gives nothing" begin
    out, lse = merge_attentions([zeros(3, 2, 5, 1)], [fill(-Inf, 2, 5, 1)])
    @test all(iszero, out)
    @test all(==(-Inf), lse)
end

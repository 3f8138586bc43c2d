# SPDX-License-Identifier: MIT
#
# The rules for automatic differentiation, against a stand-in for ChainRulesCore.

module Rules
push!(LOAD_PATH, joinpath(@__DIR__, "stand-in"))
include(joinpath(@__DIR__, "..", "ext", "NATTENChainRulesCoreExt.jl"))
const ChainRules = NATTENChainRulesCoreExt.ChainRulesCore
pop!(LOAD_PATH)
end

@testset "pulling back through a rule is ∇ of the function" begin
    q, k, v = (randn(5, 2, 7, 1) for _ in 1:3)
    tensors = (randn(5, 2), randn(5, 2, 3, 1), randn(5, 2, 3, 1))
    out, lse = neighborhood_attention(q, k, v, tensors...; kernel_size = 3,
        return_lse = true)
    d_out, d_lse = randn(size(out)...), randn(size(lse)...)
    names = NamedTuple{(:bias, :additional_keys, :additional_values)}(tensors)
    want = ∇neighborhood_attention(d_out, q, k, v, out, lse; kernel_size = 3,
        grad_lse = d_lse, names...)

    y, pullback = Rules.ChainRules.rrule(neighborhood_attention, q, k, v, tensors...;
        kernel_size = 3, return_lse = true)
    @test y == (out, lse)
    got = pullback((Rules.ChainRules.Thunk(() -> d_out), d_lse))
    @test got[1] isa Rules.ChainRules.NoTangent
    @test got[2:end] == Tuple(want)

    y, pullback = Rules.ChainRules.rrule(neighborhood_attention, q, k, v;
        kernel_size = 3)
    @test y == neighborhood_attention(q, k, v; kernel_size = 3)
    @test length(pullback(d_out)) == 4
    # Arrays without memory of their own, and none at all.
    ones_out = Base.ReshapedArray(1:length(out), size(out), ())
    @test pullback(ones_out) == pullback(Float64.(collect(ones_out)))
    @test all(iszero, pullback(Rules.ChainRules.ZeroTangent())[2])
end

@testset "a keyword that would silently get no gradient is refused" begin
    q = randn(5, 2, 7, 1)
    @test_throws ArgumentError Rules.ChainRules.rrule(neighborhood_attention, q, q, q;
        kernel_size = 3, bias = randn(5, 2))
end

@testset "merging has a rule" begin
    outs, lses = [randn(3, 2, 5, 1) for _ in 1:2], [randn(2, 5, 1) for _ in 1:2]
    (out, lse), pullback = Rules.ChainRules.rrule(merge_attentions, outs, lses)
    d_out, d_lse = randn(size(out)...), randn(size(lse)...)
    want = ∇merge_attentions(d_out, outs, lses, out, lse; grad_lse = d_lse)
    @test pullback((d_out, d_lse))[2:3] == Tuple(want)
    @test pullback((d_out, Rules.ChainRules.ZeroTangent()))[2] ==
        ∇merge_attentions(d_out, outs, lses, out, lse).grad_outputs
end

# SPDX-License-Identifier: MIT
#
# Every operation against the oracle, on small shapes whose sizes are all different, so
# that no swapped pair of axes goes unseen.  (tests/cases has more; see cases.jl.)

const PROBLEMS = """
fwd fp64 b2 h3 d5 13 w7
fwd fp64 b1 h2 d7:3 11x7 w5x3
fwd fp64 b1 h3 d5 3x7x5 w3x5x2 causal100
fwd fp64 b2 h4:2 d5:3 7x11 w3x4 s1x2 e2x1 causal01 m3 bias scale0.5
fwd fp64 b1 h2 d5 3x11 w5x3 g13x11 q2x0 n7x11 bias
fwd fp64 b1 h2 d5 2x3 w3x2 g13x11 q9x8 n3x5 m1
fwd fp32 b2 h4:2 d5:3 7x11 w3x4 s1x2 e2x1 causal01 m3 bias
fwd fp16 b1 h2 d5 7x11 w3x5 m2 bias
fwd bf16 b1 h2 d5 7x11 w3x5 m2 bias
bwd fp64 b1 h2 d3 17 w5 e3 dlse
bwd fp64 b2 h4:2 d5:3 7x11 w3x4 s1x2 e2x1 causal01 m3 bias dlse
bwd fp64 b1 h2 d3:2 5x7x3 w2x3x3 s2x1x3 e1x2x1 m2 bias scale-0.25
bwd fp64 b1 h2:1 d5 5x7 w3x5 m2 bias g11x13 q3x2 k1x1 n9x11 dlse
bwd fp32 b1 h2 d3:2 5x7 w2x3 m2 bias
bwd fp16 b1 h2 d5 7x11 w3x5 m2 bias dlse
bwd bf16 b1 h2 d5 7x11 w3x5 bias
qk fp64 b1 h2 d5 7x11 w3x5 m2 bias
qk fp64 b1 h4:2 d3 7x11 w3x4 s1x2 e2x1 causal01 scale0.5
qkbwd fp64 b2 h4:2 d5 7x11 w3x5 causal10 m2 bias
qkbwd fp32 b2 h4:2 d5 7x11 w3x5 e2x1
av fp64 b1 h4:2 d5 7x11 w3x5 causal10 m2
avbwd fp64 b1 h4:2 d5 7x11 w3x5 causal10 m2
avbwd fp32 b1 h2 d5 3x5x4 w3x2x4
"""

@testset "$line is what the definition says" for line in split(strip(PROBLEMS), '\n')
    problem = ProblemText.parse_problem(line)
    got = ProblemText.compute(problem)
    want = ProblemText.expect(problem, got)
    @test length(got) == length(want)
    for (a, b) in zip(got, want)
        @test ProblemText.close(a, b)
    end
end

@testset "lse comes only when it is asked for" begin
    q, k, v = randn(5, 2, 7, 3), randn(5, 2, 7, 3), randn(3, 2, 7, 3)
    out, lse = neighborhood_attention(q, k, v; kernel_size = 3, return_lse = true)
    @test out == neighborhood_attention(q, k, v; kernel_size = 3)
    @test size(out) == (3, 2, 7, 3)
    @test size(lse) == (2, 7, 3)
end

@testset "one value means all axes, a tuple or vector has one for each" begin
    q, k, v = (randn(5, 2, 7, 11, 1) for _ in 1:3)
    same = neighborhood_attention(q, k, v;
        kernel_size = 3, dilation = 2, is_causal = true)
    @test same == neighborhood_attention(q, k, v;
        kernel_size = (3, 3), dilation = [2, 2], is_causal = (true, true))
    @test same != neighborhood_attention(q, k, v;
        kernel_size = (3, 3), dilation = 2, is_causal = (true, false))
end

@testset "a scale of 0 is a scale" begin
    q, k, v = (randn(5, 1, 7, 1) for _ in 1:3)
    flat = neighborhood_attention(q, k, v; kernel_size = 7, scale = 0)
    @test all(isapprox.(flat, sum(v; dims = 3) / 7; atol = 1e-14))
end

@testset "attention without windows sees every key" begin
    q, k, v = randn(5, 4, 7, 2), randn(5, 2, 11, 2), randn(3, 2, 11, 2)
    shorter_keys, longer_keys = (k[:, [1, 1, 2, 2], :, :], q, q), (q, k, v)
    for causal in (false, true), (a, b, c) in (shorter_keys, longer_keys)
        axes = (Oracle.Axis(11, 11, 1, 1, causal, 0, 0, size(b, 3)),)
        want, want_lse = Oracle.forward(a, b, c, axes)
        out, lse = attention(a, b, c; is_causal = causal, return_lse = true)
        @test ProblemText.close(out, want)
        @test ProblemText.close(lse, want_lse)
        d = randn(size(out)...)
        grads = ∇attention(d, a, b, c, out, lse; is_causal = causal)
        want = Oracle.backward(d, a, b, c, out, lse, axes)
        @test all(ProblemText.close(grads[i], want[i]) for i in 1:3)
    end
end

@testset "attention takes a bias by the distance of query and key" begin
    q, k, v = randn(5, 2, 7, 1), randn(5, 2, 5, 1), randn(3, 2, 5, 1)
    bias = randn(13, 2)
    out, lse = attention(q, k, v; bias = bias, return_lse = true)
    @test attention!(similar(out), q, k, v; bias = bias) == out
    axes = (Oracle.Axis(7, 7, 1, 1, false, 0, 0, 5),)
    @test ProblemText.close(out, Oracle.forward(q, k, v, axes; bias = bias)[1])
    grads = ∇attention(out, q, k, v, out, lse; bias = bias)
    @test size(grads.grad_bias) == size(bias)
end

@testset "attention takes sequences of length zero" begin
    for (queries, keys) in ((3, 0), (0, 3), (0, 0))
        q, k = ones(5, 4, queries, 2), ones(5, 2, keys, 2)
        out, lse = attention(q, k, k; return_lse = true)
        @test size(out) == size(q) && all(iszero, out)
        @test size(lse) == size(q)[2:end] && all(==(-Inf), lse)
        grads = ∇attention(out, q, k, k, out, lse)
        @test size(grads[1]) == size(q) && size(grads[2]) == size(k)
        @test all(all(iszero, grads[i]) for i in 1:3)
        @test size(merge_attentions([out, out], [lse, lse])[1]) == size(out)
    end
end

@testset "backends are chosen by name and agree" begin
    q, k, v = (randn(Float32, 5, 2, 7, 11, 1) for _ in 1:3)
    outs = [neighborhood_attention(q, k, v; kernel_size = (3, 5), backend = b)
            for b in (:auto, :cpu, :reference)]
    @test outs[1] == outs[2]
    @test outs[1] ≈ outs[3]
    @test outs[1] ==
          neighborhood_attention(q, k, v; kernel_size = (3, 5), device = "cpu")
    out, lse = neighborhood_attention(q, k, v; kernel_size = (3, 5), return_lse = true)
    @test_throws NattenError ∇neighborhood_attention(out, q, k, v, out, lse;
        kernel_size = (3, 5), device = "cuda:63")
end

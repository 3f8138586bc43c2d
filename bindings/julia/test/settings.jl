# SPDX-License-Identifier: MIT
#
# Settings of the library and questions to it (src/settings.jl).

@testset "the number of threads can be set and changes no bit" begin
    q, k, v = (randn(Float32, 5, 3, 17, 11, 2) for _ in 1:3)
    default = NATTEN.get_num_threads()
    results = map((1, 2, 3)) do n
        NATTEN.set_num_threads(n)
        @test NATTEN.get_num_threads() == n
        out, lse = neighborhood_attention(q, k, v; kernel_size = 5, return_lse = true)
        (out, lse, ∇neighborhood_attention(out, q, k, v, out, lse; kernel_size = 5))
    end
    NATTEN.set_num_threads(0)
    @test NATTEN.get_num_threads() == default
    @test results[1] == results[2] == results[3]
    @test_throws ArgumentError NATTEN.set_num_threads(-1)
    @test_throws ArgumentError NATTEN.set_num_threads(2^40)
    @test_throws ArgumentError NATTEN.set_num_threads(1.5)
end

@testset "variants of the CPU backend can be chosen" begin
    names = NATTEN.cpu_variants()
    @test !isempty(names)
    q = randn(Float32, 5, 2, 7, 1)
    want = neighborhood_attention(q, q, q; kernel_size = 3)
    for name in names
        NATTEN.set_cpu_variant(name)
        @test neighborhood_attention(q, q, q; kernel_size = 3) ≈ want
    end
    NATTEN.set_cpu_variant(nothing)
    @test neighborhood_attention(q, q, q; kernel_size = 3) == want
    @test_throws Exception NATTEN.set_cpu_variant("abacus")
end

@testset "the library describes itself, a plan and what it can't do" begin
    q = randn(5, 2, 7, 1)
    @test !isempty(NATTEN.build_info())
    @test NATTEN.device_count() >= 0
    @test occursin("w3", NATTEN.plan_text(:forward, q, q, q; kernel_size = 3))
    @test NATTEN.supported(:backward, q, q, q; kernel_size = 3) == (true, "")
    possible, why = NATTEN.supported(:qk, q, q; kernel_size = 9)
    @test !possible
    @test occursin("kernel_size", why)
    @test NATTEN.supported(:qk, randn(5), q; kernel_size = 3) ==
        (false, "first.ndim=1 not in [4, 6]")
    @test_throws ArgumentError NATTEN.supported(:sideways, q, q, q; kernel_size = 3)
end

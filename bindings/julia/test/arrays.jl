# SPDX-License-Identifier: MIT
#
# Arrays of every memory order give the same bits, in and out, and are not copied.

@testset "views and permuted arrays are the arrays that they show" begin
    q, k, v = (randn(5, 2, 7, 11, 3) for _ in 1:3)
    options = (kernel_size = (3, 5), is_causal = (false, true))
    want, want_lse = neighborhood_attention(q, k, v; return_lse = true, options...)
    order = (3, 1, 5, 2, 4)
    permuted(a) = PermutedDimsArray(permutedims(a, order), invperm(collect(order)))
    function strided(a)
        parent = fill(NaN, 2 .* size(a))
        inside = view(parent, (1:2:2n for n in size(a))...)
        inside .= a
        return inside
    end
    for change in (permuted, strided, a -> reshape(vec(a), size(a)))
        a, b, c = change(q), change(k), change(v)
        @test a == q
        @test neighborhood_attention(a, b, c; options...) == want
        out, lse = change(zero(want)), similar(want_lse)
        @test neighborhood_attention!(out, lse, a, b, c; options...) === (out, lse)
        @test out == want
        @test lse == want_lse
    end
end

@testset "views of a part of an array read and write that part only" begin
    big = randn(5, 4, 9, 2)
    q = view(big, :, 2:3, 2:8, :)
    want = neighborhood_attention(Array(q), Array(q), Array(q); kernel_size = 3)
    frame = fill(NaN, 5, 4, 9, 2)
    neighborhood_attention!(view(frame, :, 2:3, 2:8, :), q, q, q; kernel_size = 3)
    @test frame[:, 2:3, 2:8, :] == want
    @test count(isnan, frame) == length(frame) - length(want)
end

@testset "in-place forms give the bits of the others" begin
    q, k, v = (randn(Float32, 5, 2, 7, 11, 1) for _ in 1:3)
    bias = randn(Float32, 5, 9, 2)
    ak, av = randn(Float32, 5, 2, 3, 1), randn(Float32, 5, 2, 3, 1)
    options = (kernel_size = (3, 5),)
    tensors = (bias = bias, additional_keys = ak, additional_values = av)
    out, lse = neighborhood_attention(q, k, v;
        return_lse = true, tensors..., options...)
    other = similar(out)
    @test neighborhood_attention!(other, q, k, v; tensors..., options...) === other
    @test other == out

    grads = ∇neighborhood_attention(out, q, k, v, out, lse; tensors..., options...)
    into = map(similar, grads)
    ∇neighborhood_attention!(into, out, q, k, v, out, lse; tensors..., options...)
    @test into == grads

    attn = neighborhood_qk(q, k; bias = bias, additional_keys = ak, options...)
    @test size(attn) == (3 * 5 + 3, 2, 7, 11, 1)
    other = similar(attn)
    neighborhood_qk!(other, q, k; bias = bias, additional_keys = ak, options...)
    @test other == attn
    grads = ∇neighborhood_qk(attn, q, k; bias = bias, additional_keys = ak, options...)
    into = map(similar, grads)
    ∇neighborhood_qk!(into, attn, q, k; additional_keys = ak, options...)
    @test into == grads

    product = neighborhood_av(attn, v; additional_values = av, options...)
    other = similar(product)
    @test neighborhood_av!(other, attn, v; additional_values = av, options...) === other
    @test other == product
    grads = ∇neighborhood_av(product, attn, v; additional_values = av, options...)
    into = map(similar, grads)
    ∇neighborhood_av!(into, product, attn, v; additional_values = av, options...)
    @test into == grads
end

@testset "the positional form is the keyword form" begin
    q, k, v = (randn(5, 2, 7, 1) for _ in 1:3)
    bias, ak, av = randn(5, 2), randn(5, 2, 3, 1), randn(5, 2, 3, 1)
    @test neighborhood_attention(q, k, v, bias, ak, av; kernel_size = 3) ==
        neighborhood_attention(q, k, v; kernel_size = 3, bias = bias,
            additional_keys = ak, additional_values = av)
    @test neighborhood_attention(q, k, v, bias; kernel_size = 3) ==
        neighborhood_attention(q, k, v; kernel_size = 3, bias = bias)
end

@testset "a batch of 0 is nothing to do" begin
    q = zeros(5, 2, 7, 0)
    @test size(neighborhood_attention(q, q, q; kernel_size = 3)) == (5, 2, 7, 0)
end

@testset "bfloat16 rounds to nearest, ties to even" begin
    for (x, y) in ((1.0f0, 1.0f0), (1.00390625f0, 1.0f0), (1.01171875f0, 1.015625f0),
                   (nextfloat(1.00390625f0), 1.0078125f0), (-2.5f-40, -2.5f-40),
                   (3.4f38, Inf32))
        rounded = Float32(NATTEN.BFloat16(x))
        @test isfinite(y) ? abs(rounded - y) <= 2.0^-133 : rounded == y
    end
    @test isnan(Float32(NATTEN.BFloat16(NaN32)))
    back_and_forth(bits) = reinterpret(UInt16,
        NATTEN.BFloat16(Float32(reinterpret(NATTEN.BFloat16, bits))))
    @test all(back_and_forth(bits) == bits for bits in 0x0000:0x7f80)
end

# SPDX-License-Identifier: MIT
#
# Gradients against central differences in Float64, every element of every input.

# d/dx of loss() by moving one element at a time.  With steps of 2^-14 the error is
# about step^2 times a third derivative of order 1, or 4e-9, plus rounding of 1e-15 /
# step.
function differences(loss, x)
    step = 2.0^-14
    return map(eachindex(x)) do i
        kept = x[i]
        x[i] = kept + step
        above = loss()
        x[i] = kept - step
        below = loss()
        x[i] = kept
        (above - below) / 2step
    end
end

agrees(gradient, loss, x) =
    maximum(abs.(vec(gradient) .- differences(loss, x))) <=
    1e-7 * max(1, maximum(abs, gradient))

@testset "gradients of attention are its derivatives ($(length(dims))-D)" for dims in
        ((5,), (5, 3), (3, 2, 4))
    n = length(dims)
    q, k, v = randn(3, 4, dims..., 1), randn(3, 2, dims..., 1), randn(2, 2, dims..., 1)
    window = min.(dims, 2 .+ (1:n...,) .% 2)
    tensors = (bias = randn((2 .* window .- 1)..., 4),
               additional_keys = randn(3, 2, 2, 1),
               additional_values = randn(2, 2, 2, 1))
    options = (kernel_size = window, is_causal = ntuple(i -> i == n, n))
    d_out, d_lse = randn(2, 4, dims..., 1), randn(4, dims..., 1)
    function loss()
        out, lse = neighborhood_attention(q, k, v;
            return_lse = true, tensors..., options...)
        return sum(out .* d_out) + sum(lse .* d_lse)
    end
    out, lse = neighborhood_attention(q, k, v;
        return_lse = true, tensors..., options...)
    grads = ∇neighborhood_attention(d_out, q, k, v, out, lse;
        grad_lse = d_lse, tensors..., options...)
    @test keys(grads) == NATTEN.ATTENTION_GRADIENTS
    for (gradient, x) in zip(grads, (q, k, v, tensors...))
        @test agrees(gradient, loss, x)
    end
end

@testset "gradients of the unfused pair are its derivatives" begin
    q, k, v = randn(3, 4, 5, 3, 1), randn(3, 2, 5, 3, 1), randn(2, 2, 5, 3, 1)
    bias, ak, av = randn(5, 3, 4), randn(3, 2, 2, 1), randn(2, 2, 2, 1)
    options = (kernel_size = (3, 2), dilation = (1, 1), scale = 0.7)
    logits() = neighborhood_qk(q, k; bias = bias, additional_keys = ak, options...)
    d_attn = randn(size(logits())...)
    grads = ∇neighborhood_qk(d_attn, q, k; bias = bias, additional_keys = ak,
        options...)
    for (gradient, x) in zip(grads, (q, k, bias, ak))
        @test agrees(gradient, () -> sum(logits() .* d_attn), x)
    end

    attn, d_out = randn(size(d_attn)...), randn(2, 4, 5, 3, 1)
    product() = neighborhood_av(attn, v; additional_values = av, options...)
    grads = ∇neighborhood_av(d_out, attn, v; additional_values = av, options...)
    for (gradient, x) in zip(grads, (attn, v, av))
        @test agrees(gradient, () -> sum(product() .* d_out), x)
    end
end

@testset "a gradient that is not wanted changes no other" begin
    q, k, v = (randn(5, 2, 7, 11, 1) for _ in 1:3)
    options = (kernel_size = (3, 5),)
    out, lse = neighborhood_attention(q, k, v; return_lse = true, options...)
    d = randn(size(out)...)
    all_of_them = ∇neighborhood_attention(d, q, k, v, out, lse; options...)
    for name in (:grad_query, :grad_key, :grad_value)
        one = NamedTuple{(name,)}((similar(q),))
        @test ∇neighborhood_attention!(one, d, q, k, v, out, lse; options...) === one
        @test one[name] == all_of_them[name]
    end
    @test all_of_them.grad_bias === nothing
end

@testset "a batch of nothing has a gradient of zero for the bias" begin
    q, lse, bias = ones(3, 2, 5, 0), ones(2, 5, 0), ones(5, 2)
    options = (kernel_size = 3, bias = bias)
    gradients = ∇neighborhood_attention(q, q, q, q, q, lse; options...)
    @test gradients.grad_bias == zero(bias)
end

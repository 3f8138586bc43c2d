# SPDX-License-Identifier: MIT
#
# Misuse: the exception, what its sentence names, and that outputs stay as they were.

# One good call, of which each row below spoils something.
good() = (query = randn(5, 4, 7, 11, 2), key = randn(5, 2, 7, 11, 2),
          value = randn(3, 2, 7, 11, 2), out = fill(0.5, 3, 4, 7, 11, 2),
          lse = fill(0.5, 4, 7, 11, 2), options = (kernel_size = (3, 5),))

spoil(; arrays...) = merge(good(), arrays.data)
with(; options...) = spoil(options = merge((kernel_size = (3, 5),), options.data))

# (arguments, exception, what the sentence must say)
const MISUSES = [
    (with(kernel_size = (9, 5)), ArgumentError, "natten_forward: kernel_size[width]=9"),
    (with(kernel_size = (3, 0)), ArgumentError, "kernel_size[height]=0"),
    (with(kernel_size = (3, 12)), ArgumentError, "kernel_size[height]=12"),
    (with(dilation = (3, 1)), ArgumentError, "kernel_size[width]=3"),
    (with(dilation = (1, -1)), ArgumentError, "dilation[height]=-1"),
    (with(stride = (4, 1)), ArgumentError, "stride[width]=4"),
    (with(is_causal = (2, 0)), ArgumentError, "is_causal[width]=2"),
    (with(grid_length = (6, 11)), ArgumentError, "grid_length[width]=6"),
    (with(query_begin = (1, 0)), ArgumentError, "query_begin[width]=1"),
    (with(key_begin = (0, 1)), ArgumentError, "key_begin[height]=1"),
    (with(scale = Inf), ArgumentError, "scale=inf"),
    (with(scale = big(10)^400), ArgumentError, "scale=inf"),
    (with(scale = "a"), ArgumentError,
        "scale: a finite number or nothing is wanted, not \"a\""),
    (with(scale = 1im), ArgumentError, "scale: a finite number"),
    (with(kernel_size = (3, big(2)^70)), ArgumentError,
        "kernel_size=1180591620717411303424 not in [-9223372036854775808, "),
    (with(stride = -big(2)^70), ArgumentError, "stride=-1180591620717411303424 not in"),
    (with(kernel_size = (3, 5, 3)), DimensionMismatch, "kernel_size: 3 values"),
    (with(kernel_size = 3.0), ArgumentError, "kernel_size: an integer"),
    (with(backend = :abacus), ArgumentError, "backend=:abacus is none of :auto, :cpu"),
    (with(backend = "cpu"), ArgumentError, "backend: a symbol"),
    (with(device = :gpu), ArgumentError, "device=\"gpu\" is none of: cpu cuda"),
    # No machine has 64 GPUs.
    (with(device = "cuda:63"), NattenError, "natten_forward_host: "),
    (with(additional_keys = zeros(5, 2, 3, 2)), ArgumentError, "additional_values"),
    (with(bias = zeros(9, 5, 4)), DimensionMismatch, "bias"),
    (with(bias = zeros(Float32, 5, 9, 4)), ArgumentError, "bias is fp32, not fp64"),
    (with(windows = 3), MethodError, "windows"),
    (spoil(key = randn(5, 3, 7, 11, 2)), DimensionMismatch, "heads"),
    (spoil(key = randn(5, 2, 7, 10, 2)), DimensionMismatch,
        "natten_forward: key[height]=10 not in [11, 11]"),
    (spoil(value = randn(3, 2, 6, 11, 2)), DimensionMismatch, "value[width]=6"),
    (spoil(key = randn(6, 2, 7, 11, 2)), DimensionMismatch, "key[head_dim]=6"),
    (spoil(key = randn(5, 2, 7, 2)), DimensionMismatch, "key"),
    (spoil(out = fill(0.5, 5, 4, 7, 11, 2)), DimensionMismatch, "out[head_dim_v]=5"),
    (spoil(lse = fill(0.5, 4, 7, 11)), DimensionMismatch, "lse"),
    (spoil(lse = fill(0.5f0, 4, 7, 11, 2)), ArgumentError, "lse is fp32"),
    (spoil(key = randn(Float32, 5, 2, 7, 11, 2)), ArgumentError, "key is fp32"),
    (spoil(query = randn(5, 4)), DimensionMismatch, "query.ndim=2 not in [4, 6]"),
    (spoil(query = randn(5, 4, 2, 2, 2, 2, 2)), DimensionMismatch,
        "query.ndim=7 not in [4, 6]"),
    (spoil(query = rand(Int, 5, 4, 7, 11, 2)), ArgumentError,
        "query: elements of type Int64"),
    (spoil(query = 3), ArgumentError, "query: an array is wanted, not a Int64"),
    (spoil(value = nothing), ArgumentError, "value is NULL"),
    (spoil(value = [1, 2]), ArgumentError, "value: elements of type Int64"),
    (spoil(key = view(randn(5, 2, 7, 11, 2), :, :, [1:7;], :, :)), ArgumentError,
        "collect(key)"),
    (spoil(key = view(randn(5, 2, 7, 11, 2), :, :, 7:-1:1, :, :)), ArgumentError,
        "key has a negative stride"),
    (spoil(query = reshape(1.0:3080.0, 5, 4, 7, 11, 2)), ArgumentError,
        "collect(query)"),
]

# Some types of the list name their type in a way that only their own printing does.
said(problem) = sprint(showerror, problem)

function caught(f)
    try
        f()
    catch problem
        return problem
    end
end

@testset "misuse raises the fitting exception, names its cause and writes nothing" begin
    for (a, kind, words) in MISUSES
        problem = caught(() -> neighborhood_attention!(a.out, a.lse, a.query, a.key,
            a.value; a.options...))
        @test problem isa kind
        @test occursin(words, said(problem))
        @test all(==(0.5), a.out)
        @test all(==(0.5), a.lse)
    end
end

@testset "the forms that allocate ask for an array by its name" begin
    q, out, lse = randn(5, 2, 7, 1), randn(5, 2, 7, 1), randn(2, 7, 1)
    w = (kernel_size = 3,)
    for (name, form) in (
            ("query", () -> neighborhood_attention(nothing, q, q; w...)),
            ("value", () -> neighborhood_attention(q, q, nothing; w...)),
            ("query", () -> ∇neighborhood_attention(q, 3, q, q, out, lse; w...)),
            ("query", () -> attention(nothing, q, q)),
            ("key", () -> attention(q, nothing, q)),
            ("value", () -> attention(q, q, nothing)),
            ("query", () -> neighborhood_qk(nothing, q; w...)),
            ("attn", () -> neighborhood_av(nothing, q; w...)),
            ("value", () -> neighborhood_av(q, nothing; w...)),
            ("outputs[1]", () -> merge_attentions([nothing], [lse])),
            ("lses[2]", () -> merge_attentions([out, out], [lse, nothing])),
            ("lses[1]", () -> ∇merge_attentions(out, [out], [nothing], out, lse)))
        problem = caught(form)
        @test problem isa ArgumentError
        @test occursin("$name: an array is wanted", said(problem))
    end
    problem = caught(() -> neighborhood_attention(q, q, q; w..., return_lse = 3))
    @test problem == ArgumentError("return_lse: true or false is wanted, not 3")
end

@testset "an array of the wrong rank is a mismatch that names it" begin
    q, flat = randn(5, 2, 7, 1), randn(5, 7)
    for (name, form) in (
            ("query", () -> neighborhood_attention(flat, q, q; kernel_size = 3)),
            ("query", () -> neighborhood_qk(flat, q; kernel_size = 3)),
            ("attn", () -> neighborhood_av(flat, q; kernel_size = 3)),
            ("first", () -> NATTEN.plan_text(:qk, flat, q; kernel_size = 3)))
        @test caught(form) == DimensionMismatch("$name.ndim=2 not in [4, 6]")
    end
end

@testset "attention is of one axis and takes no option about windows" begin
    q, image, video = (randn(5, 2, axes..., 1) for axes in ((7,), (7, 11), (3, 4, 5)))
    out, lse = attention(q, q, q; return_lse = true)
    forms = (x -> attention(x, x, x), x -> attention!(similar(x), x, x, x),
             x -> ∇attention(x, x, x, x, x, out),
             x -> ∇attention!((grad_query = similar(x),), x, x, x, x, x, out))
    for form in forms, x in (image, video, fill(1.0))
        problem = caught(() -> form(x))
        @test problem isa DimensionMismatch
        @test occursin("query.ndim=$(ndims(x)) not in [4, 4]", said(problem))
    end
    for name in (:kernel_size, :stride, :dilation, :grid_length, :query_begin, :windows)
        option = NamedTuple{(name,)}((1,))
        for problem in (caught(() -> attention(q, q, q; option...)),
                        caught(() -> ∇attention(q, q, q, q, out, lse; option...)))
            @test problem isa MethodError
            @test occursin(string(name), said(problem))
        end
    end
end

@testset "outputs may not lie on inputs or on themselves" begin
    a = good()
    shared = spoil(value = copy(a.key), out = a.query)
    kept = copy(shared.out)
    @test_throws ArgumentError neighborhood_attention!(shared.out, a.query, a.key,
        a.key; a.options...)
    @test shared.out == kept
end

@testset "the forms that allocate refuse before they allocate" begin
    q = randn(5, 2, 7, 1)
    for kernel_size in (10^15, 0, -3)
        problem = caught(() -> neighborhood_qk(q, q; kernel_size = kernel_size))
        @test problem isa ArgumentError
        @test startswith(problem.msg, "natten_qk: kernel_size[length]=$kernel_size ")
        @test_throws ArgumentError neighborhood_attention(q, q, q;
            kernel_size = kernel_size)
        @test_throws ArgumentError neighborhood_av(q, q; kernel_size = kernel_size)
    end
    @test_throws DimensionMismatch neighborhood_attention(fill(1.0), q, q;
        kernel_size = 1)
    @test_throws UndefKeywordError neighborhood_attention(q, q, q)
end

@testset "gradients are asked for by their names" begin
    q = randn(5, 2, 7, 1)
    out, lse = neighborhood_attention(q, q, q; kernel_size = 3, return_lse = true)
    problem = caught(() -> ∇neighborhood_attention!((grad_queries = similar(q),),
        q, q, q, q, out, lse; kernel_size = 3))
    @test problem isa ArgumentError
    @test occursin("grad_queries is none of grad_query, grad_key", said(problem))
    wrong = (grad_query = similar(q, 5, 2, 6, 1),)
    @test_throws DimensionMismatch ∇neighborhood_attention!(wrong, q, q, q, q, out, lse;
        kernel_size = 3)
    @test_throws ArgumentError ∇neighborhood_attention!((grad_bias = zeros(5, 2),),
        q, q, q, q, out, lse; kernel_size = 3)
end

@testset "lists to merge have one length and are not empty" begin
    a, lse = randn(3, 2, 5, 1), randn(2, 5, 1)
    @test_throws ArgumentError merge_attentions([], [])
    @test_throws DimensionMismatch merge_attentions([a, a], [lse])
    @test_throws DimensionMismatch merge_attentions([a, randn(3, 2, 6, 1)], [lse, lse])
    @test_throws ArgumentError merge_attentions([a], [Float32.(lse)])
end

@testset "each status has its exception" begin
    said_by(status) = NATTEN.exception(status, "sentence")
    @test said_by(L.NATTEN_ERR_ARGUMENT) == ArgumentError("sentence")
    @test said_by(L.NATTEN_ERR_DTYPE) == ArgumentError("sentence")
    @test said_by(L.NATTEN_ERR_LAYOUT) == ArgumentError("sentence")
    @test said_by(L.NATTEN_ERR_SHAPE) == DimensionMismatch("sentence")
    @test said_by(L.NATTEN_ERR_OVERFLOW) == OverflowError("sentence")
    @test said_by(L.NATTEN_ERR_INTERRUPTED) isa InterruptException
    for status in (L.NATTEN_ERR_MEMORY, L.NATTEN_ERR_UNSUPPORTED, L.NATTEN_ERR_DEVICE,
                   L.NATTEN_ERR_ABI)
        @test said_by(status) == NattenError(status, "sentence")
    end
    @test sprint(showerror, said_by(L.NATTEN_ERR_MEMORY)) ==
        "NattenError(NATTEN_ERR_MEMORY): sentence"
end

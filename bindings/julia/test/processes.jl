# SPDX-License-Identifier: MIT
#
# What needs a process of its own: Ctrl-C, other threads' garbage collection, loading.

# Run Julia code in a child that sees the same package and library; its output and the
# ended process.  `meanwhile` is given the process when the child has printed its first
# line.
function child(code; meanwhile = process -> nothing, settings = Dict{String,String}())
    output = Pipe()
    command = setenv(`$(Base.julia_cmd()) --startup-file=no -e $code`,
        merge(Dict(ENV), settings))
    process = run(pipeline(command; stdout = output, stderr = output); wait = false)
    close(output.in)
    # A child that hangs must not hang the tests; it is killed and so fails them.
    guard = Timer(_ -> kill(process, Base.SIGKILL), 300)
    first = readline(output)
    meanwhile(process)
    text = first * "\n" * read(output, String)
    wait(process)
    close(guard)
    return text, process
end

# Some seconds of work, were it not stopped: 65536 queries of 8 heads, 16384 keys each.
const LONG_CALL = """
using NATTEN
small = ones(Float32, 8, 1, 9, 1)
neighborhood_attention(small, small, small; kernel_size = 3)
q = ones(Float32, 32, 8, 65536, 1)
println("ready"); flush(stdout)
"""

function interrupt(process)
    sleep(1.0)
    kill(process, Base.SIGINT)
end

@testset "Ctrl-C ends a long call with an InterruptException, and work goes on" begin
    text, process = child(LONG_CALL * """
        begun = time()
        try
            neighborhood_attention(q, q, q; kernel_size = 16384)
            println("not interrupted")
        catch problem
            println(typeof(problem), time() - begun < 4 ? " soon" : " late")
        end
        println(neighborhood_attention(small, small, small; kernel_size = 3) == small)
        """; meanwhile = interrupt)
    @test occursin("InterruptException soon\ntrue", text)
    @test success(process)
end

@testset "Ctrl-C ends a script in the middle of a call as Julia ends scripts" begin
    text, process = child(LONG_CALL * """
        Base.exit_on_sigint(true)
        neighborhood_attention(q, q, q; kernel_size = 16384)
        println("not interrupted")
        """; meanwhile = interrupt)
    @test !occursin("not interrupted", text)
    @test process.exitcode == 130 || process.termsignal == Base.SIGINT
end

@testset "calls survive garbage collection hammered by another thread" begin
    text, process = child("""
        using NATTEN
        println(Threads.nthreads())
        const done = Threads.Atomic{Bool}(false)
        const collections = Threads.Atomic{Int}(0)
        function hammer()
            while !done[]
                GC.gc(rand() < 0.1)
                Threads.atomic_add!(collections, 1)
                # Without a pause Julia's own compiler would starve on the main thread.
                Libc.systemsleep(0.001)
            end
        end
        function once(seed)
            q = [sin(seed + i) for i in 1:5*2*7*11]
            q = reshape(q, 5, 2, 7, 11, 1)
            out, lse = neighborhood_attention(view(q, :, :, :, :, :), copy(q), copy(q);
                kernel_size = (3, 5), return_lse = true)
            grads = ∇neighborhood_attention(copy(out), q, q, q, out, lse;
                kernel_size = (3, 5))
            merged = merge_attentions([copy(out), copy(out)], [copy(lse), copy(lse)])
            (out, lse, grads.grad_query, grads.grad_key, grads.grad_value, merged...)
        end
        want = once(1)
        other = Threads.@spawn hammer()
        while collections[] == 0
            yield()
        end
        same = all([once(1) == want for _ in 1:200])
        during = collections[]
        done[] = true
        wait(other)
        println(same, during > 20)
        """; settings = Dict("JULIA_NUM_THREADS" => "2"))
    @test text == "2\ntruetrue\n"
    @test success(process)
end

@testset "Julia threads may call at once" begin
    text, process = child("""
        using NATTEN
        println("ready")
        q = [randn(Float32, 5, 2, 17, 11, 1) for _ in 1:8]
        want = [neighborhood_attention(x, x, x; kernel_size = 5) for x in q]
        got = Vector{Any}(nothing, 8)
        for _ in 1:20
            Threads.@threads for i in 1:8
                got[i] = neighborhood_attention(q[i], q[i], q[i]; kernel_size = 5)
            end
            got == want || println("different")
        end
        # A sentence belongs to the thread whose call failed.
        Threads.@threads for i in 1:8
            try
                neighborhood_attention(q[i], q[i], q[i]; kernel_size = 100 + i)
            catch problem
                occursin("=\$(100 + i) ", problem.msg) || println(problem.msg)
            end
        end
        """; settings = Dict("JULIA_NUM_THREADS" => "2"))
    @test text == "ready\n"
    @test success(process)
end

@testset "a library that is not there is said so" begin
    text, process = child("using NATTEN";
        settings = Dict("NATTEN_LIBRARY" => "/no/such/file.so"))
    @test !success(process)
    @test occursin("/no/such/file.so", text)
end

# SPDX-License-Identifier: MIT
#
# Questions to the library and settings of it; none of them is exported.

"Version of the loaded library."
version() = VersionNumber(unsafe_string(LibNATTEN.natten_version()))

"What the loaded library was built with, a line per fact."
build_info() = unsafe_string(LibNATTEN.natten_build_info())

"CUDA devices that the library can compute on."
device_count() = Int(LibNATTEN.natten_device_count())

"CUDA device `id`, counted from 0, in words; an exception says why it can't be used."
function device_text(id = 0)
    text = zeros(UInt8, 256)
    check(LibNATTEN.natten_device_text(integer(Int32, "id", id), text, length(text)))
    return String(text[1:findfirst(iszero, text)-1])
end

"""
    NATTEN.set_num_threads(n)

Threads of later calls, for the whole process; 0 is the default: the environment
variable `NATTEN_NUM_THREADS`, else the CPUs that the process may use.
"""
set_num_threads(n) =
    check(LibNATTEN.natten_set_num_threads(integer(Int32, "threads", n)))

"Threads that a call would use now."
get_num_threads() = Int(LibNATTEN.natten_get_num_threads())

"Instruction-set variants of the CPU backend that this machine has, best last."
cpu_variants() = String.(split(unsafe_string(LibNATTEN.natten_cpu_variants())))

"""
    NATTEN.set_cpu_variant(name)

Variant for later calls, for the whole process; `nothing` is the default.
"""
set_cpu_variant(name::AbstractString) =
    check(LibNATTEN.natten_set_cpu_variant(String(name)))
set_cpu_variant(::Nothing) = check(LibNATTEN.natten_set_cpu_variant(C_NULL))

"""
    NATTEN.supported(operation, first, second, third=nothing; additional=nothing,
        kernel_size, ...)

Whether a call could be made on this machine, and if not, why: `(true, "")` or `(false,
sentence)`. `operation` is `:forward`, `:backward` (with query, key, value), `:qk`,
`:qk_backward` (query, key), `:av` or `:av_backward` (attn, value); `additional` are the
additional keys (for av: values).
"""
function supported(operation, first, second, third = nothing;
        additional = nothing, kw...)
    asked = try
        question(operation, first, second, third, additional; kw...)
    catch problem
        # A rank that no operation takes is an answer, as other shapes are.
        problem isa DimensionMismatch || rethrow()
        return (false, problem.msg)
    end
    status = LibNATTEN.natten_supported(asked...)
    status == LibNATTEN.NATTEN_OK && return (true, "")
    return (false, unsafe_string(LibNATTEN.natten_last_error()))
end

"""
    NATTEN.plan_text(operation, first, second, third=nothing; additional=nothing,
        kernel_size, ...)

How a call would be computed, in words. Arguments as for [`NATTEN.supported`](@ref).
"""
function plan_text(operation, first, second, third = nothing;
        additional = nothing, kw...)
    text = zeros(UInt8, 4096)
    check(LibNATTEN.natten_plan_text(
        question(operation, first, second, third, additional; kw...)...,
        text, length(text)))
    return String(text[1:findfirst(iszero, text)-1])
end

# The arguments that natten_supported() and its relatives share.
question(operation, first, second, third, additional; kw...) = (
    options(rank("first", first); kw...),
    member(OPERATIONS, "operation", operation),
    argument("first", first), argument("second", second), argument("third", third),
    argument("additional", additional))

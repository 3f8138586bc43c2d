# SPDX-License-Identifier: MIT
#
# One call into the library: how Ctrl-C stops it and how a status becomes an exception.
#
# Julia's own Ctrl-C would unwind the stack from inside C code.  So it is put off for
# the length of the call, and the library asks us at least every 50 ms, through the
# cancel callback, whether one is waiting.  (Only Julia's first thread ever receives
# Ctrl-C.)

"""
    NattenError(status, sentence)

A failure that none of Julia's own exceptions fits: out of memory, an operation that
this build can't do, a device, a library of another ABI. Wrong arguments raise
`ArgumentError`, shapes that disagree `DimensionMismatch`, sizes beyond 64 bits
`OverflowError`, Ctrl-C `InterruptException`; all carry the library's sentence where
they can carry one.
"""
struct NattenError <: Exception
    status::LibNATTEN.natten_status
    sentence::String
end

function Base.showerror(io::IO, e::NattenError)
    print(io, "NattenError(", e.status, "): ", e.sentence)
end

# The sentence is kept per thread and read before this task can move to another one.
# That of a question on behalf of `operation` has that name.
function check(status::LibNATTEN.natten_status, operation = nothing)
    status == LibNATTEN.NATTEN_OK && return nothing
    sentence = unsafe_string(LibNATTEN.natten_last_error())
    operation === nothing || (sentence = replace(sentence, r"^natten_\w+" => operation))
    throw(exception(status, sentence))
end

function exception(status, sentence)
    status == LibNATTEN.NATTEN_ERR_ARGUMENT && return ArgumentError(sentence)
    status == LibNATTEN.NATTEN_ERR_DTYPE && return ArgumentError(sentence)
    status == LibNATTEN.NATTEN_ERR_LAYOUT && return ArgumentError(sentence)
    status == LibNATTEN.NATTEN_ERR_SHAPE && return DimensionMismatch(sentence)
    status == LibNATTEN.NATTEN_ERR_OVERFLOW && return OverflowError(sentence)
    status == LibNATTEN.NATTEN_ERR_INTERRUPTED && return InterruptException()
    return NattenError(status, sentence)
end

# stop() for C; set when the package is loaded, because addresses don't survive
# precompiling.
const STOP = Ref{Ptr{Cvoid}}(C_NULL)

# The cancel callback: nonzero when Ctrl-C is waiting.  It must not throw into C, so the
# exception that a waiting Ctrl-C becomes is caught here; call() throws it again.
function stop(::Ptr{Cvoid})::Int32
    try
        reenable_sigint(() -> nothing)
        return Int32(0)
    catch
        return Int32(1)
    end
end

"Call `operation`, a function of `LibNATTEN`, so that Ctrl-C stops it cleanly."
function call(operation, arguments...)
    status = disable_sigint() do
        LibNATTEN.natten_set_cancel_callback(STOP[], C_NULL)
        result = operation(arguments...)
        LibNATTEN.natten_set_cancel_callback(C_NULL, C_NULL)
        result
    end
    check(status)
end

# What an operation on tensors takes last: no workspace of ours, no stream.
const NO_WORKSPACE = (C_NULL, 0, C_NULL)

"Number of the GPU that `device` names, nothing for the CPU."
function gpu(device)
    kind, number = Ref{Int32}(0), Ref{Int32}(0)
    check(LibNATTEN.natten_device_from_name(string(device), kind, number))
    return kind[] == Int32(LibNATTEN.NATTEN_CUDA) ? number[] : nothing
end

"Call `here`, or on arrays that are sent to a GPU `there`."
function call_on(device, here, there, arguments...)
    number = gpu(device)
    number === nothing && return call(here, arguments..., NO_WORKSPACE...)
    return call(there, arguments..., number)
end

# A named tuple of gradients to fill: only names in `known`, each an array or nothing.
function check_gradients(gradients::NamedTuple, known)
    for name in keys(gradients)
        name in known || throw(ArgumentError("$name is none of $(join(known, ", "))"))
    end
end

"The gradient called `name` as an argument; not there means not wanted."
gradient(gradients, name) = argument(name, get(gradients, name, nothing))

"An array for the gradient of `a`."
like(a::AbstractArray) = similar(a)
like(a) = a

"The same, filled: a batch of nothing leaves a sum over the batch untouched."
zeros_like(a) = a === nothing ? a : fill!(like(a), 0)

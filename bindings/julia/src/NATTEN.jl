# SPDX-License-Identifier: MIT
"""
Neighborhood attention on 1-D, 2-D and 3-D grids, over libnatten.

| array | size |
|:--|:--|
| query | `(head_dim, heads, W, H, batch)` |
| key, value | `(head_dim, heads_kv, W, H, batch)` |
| out | `(head_dim_v, heads, W, H, batch)` |
| lse | `(heads, W, H, batch)` |
| bias | `(2kw - 1, 2kh - 1, heads)` |
| additional keys, values | `(head_dim, heads_kv, tokens, batch)` |
| attn | `(slots, heads, W, H, batch)` |

with one grid axis less or more for 1-D and 3-D. Per-axis values (`kernel_size`,
`stride`, ...) are one number for all axes or a tuple in the arrays' order, W first.
This is the memory of the C library's row-major `[batch, H, W, heads, head_dim]`, so
arrays cross without a copy.

Functions: [`neighborhood_attention`](@ref), [`neighborhood_qk`](@ref),
[`neighborhood_av`](@ref), [`attention`](@ref) and [`merge_attentions`](@ref); each has
an in-place form with `!`, a form with `∇` that gives the gradients, and a form with
both. Not exported: `NATTEN.set_num_threads`, `NATTEN.plan_text` and other questions and
settings.
"""
module NATTEN

using Libdl: dlopen

include("LibNATTEN.jl")
using .LibNATTEN

include("bfloat16.jl")
include("tensors.jl")
include("options.jl")
include("calls.jl")
include("attention.jl")
include("unfused.jl")
include("merge.jl")
include("settings.jl")
include("library.jl")

export attention, attention!, ∇attention, ∇attention!
export neighborhood_attention, neighborhood_attention!
export ∇neighborhood_attention, ∇neighborhood_attention!
export neighborhood_qk, neighborhood_qk!, ∇neighborhood_qk, ∇neighborhood_qk!
export neighborhood_av, neighborhood_av!, ∇neighborhood_av, ∇neighborhood_av!
export merge_attentions, merge_attentions!, ∇merge_attentions, ∇merge_attentions!
export NattenError

function __init__()
    load_library()
    STOP[] = @cfunction(stop, Int32, (Ptr{Cvoid},))
    return nothing
end

end # module

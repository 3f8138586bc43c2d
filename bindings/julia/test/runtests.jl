# SPDX-License-Identifier: MIT
#
# The tests of the package: `Pkg.test`, or `make check` through tap.jl.  Each file tests
# one side of it; the name of a test set is the sentence that it proves.

using Test
using NATTEN

const L = NATTEN.LibNATTEN

include("oracle.jl")
include("problem_text.jl")

@testset "NATTEN" begin
    include("loading.jl")
    include("attention.jl")
    include("gradients.jl")
    include("arrays.jl")
    include("merging.jl")
    include("errors.jl")
    include("settings.jl")
    include("cases.jl")
    include("rules.jl")
    include("processes.jl")
end

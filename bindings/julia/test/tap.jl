# SPDX-License-Identifier: MIT
#
# runtests.jl, telling automake's driver in TAP: a line for each innermost test set, and
# what failed in it as comments.

using Test

mutable struct TapTestSet <: Test.AbstractTestSet
    name::String
    problems::Vector{Any}
    has_children::Bool
end
TapTestSet(name; _...) = TapTestSet(name, [], false)

# Lines printed so far, and failures among them.
const LINES = Ref(0)
const FAILED = Ref(0)

Test.record(::TapTestSet, pass::Test.Pass) = pass
Test.record(set::TapTestSet, problem) = (push!(set.problems, problem); problem)
Test.record(set::TapTestSet, ::TapTestSet) = (set.has_children = true; nothing)

function Test.finish(set::TapTestSet)
    if !set.has_children || !isempty(set.problems)
        LINES[] += 1
        FAILED[] += !isempty(set.problems)
        println(isempty(set.problems) ? "ok " : "not ok ", LINES[], " - ", set.name)
        for problem in set.problems, line in split(sprint(show, problem), '\n')
            println("# ", line)
        end
        flush(stdout)
    end
    Test.get_testset_depth() > 0 && Test.record(Test.get_testset(), set)
    return set
end

@testset TapTestSet "all" begin
    include("runtests.jl")
end
println("1..", LINES[])
exit(FAILED[] == 0 ? 0 : 1)

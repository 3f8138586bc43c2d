# SPDX-License-Identifier: MIT
#
# The text cases that all languages run, tests/cases/*.txt: against the oracle here,
# and, where NATTEN_BITS names a folder, their bytes for comparing languages.

const CASES = joinpath(get(ENV, "top_srcdir", joinpath(@__DIR__, "..", "..", "..")),
    "tests", "cases")

# The package may be installed without the cases.
case_files() = isdir(CASES) ?
    sort([f for f in readdir(CASES) if endswith(f, ".txt")]) : String[]

@testset "every case of $file is what the definition says" for file in case_files()
    for (line, problem) in ProblemText.read_cases(joinpath(CASES, file))
        got = ProblemText.compute(problem)
        @test all(ProblemText.close.(got, ProblemText.expect(problem, got)))
        haskey(ENV, "NATTEN_BITS") || continue
        folder = mkpath(joinpath(ENV["NATTEN_BITS"], "julia"))
        open(joinpath(folder, "$(splitext(file)[1])-$line.bin"), "w") do io
            foreach(array -> write(io, array), got)
        end
    end
end

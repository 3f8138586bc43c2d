# SPDX-License-Identifier: MIT
#
# The generated layer against the loaded library.

@testset "the loaded library has the package's version and ABI" begin
    project = read(joinpath(dirname(@__DIR__), "Project.toml"), String)
    @test NATTEN.version() == VersionNumber(match(r"\nversion = \"(.*)\"", project)[1])
    @test L.natten_abi_version() == L.NATTEN_ABI_VERSION
end

@testset "every struct has the library's size and offsets" begin
    @test NATTEN.check_layout(L.layout(), "the library") === nothing
    @test [name for (name, _, _) in L.layout()] == ["natten_tensor", "natten_params"]
end

@testset "a size or an offset that differs stops the load" begin
    for (name, size, fields) in L.layout()
        wrong = [(name, size + 8, fields)]
        @test_throws NattenError NATTEN.check_layout(wrong, "the library")
        for i in eachindex(fields)
            moved = collect(fields)
            moved[i] = (moved[i][1], moved[i][2] + 4)
            wrong = [(name, size, moved)]
            @test_throws NattenError NATTEN.check_layout(wrong, "the library")
        end
        unknown = [(name, size, [("no_such_field", 0)])]
        @test_throws NattenError NATTEN.check_layout(unknown, "the library")
    end
end

@testset "the header's comments are docstrings" begin
    @test occursin("Largest number of axes", string(@doc L.NATTEN_MAX_RANK))
    @test occursin("grad_query", string(@doc L.natten_backward))
    for name in names(NATTEN)
        text = string(Base.Docs.doc(Base.Docs.Binding(NATTEN, name)))
        @test !occursin("No documentation found", text)
    end
end

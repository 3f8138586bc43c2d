# SPDX-License-Identifier: MIT
#
# Finding the shared library and making sure that it is the one this package was made
# for.

# `make install` writes libpath.jl, one string: where it put the library.
const PATH_FILE = joinpath(@__DIR__, "libpath.jl")
include_dependency(PATH_FILE)
const INSTALLED = isfile(PATH_FILE) ? include(PATH_FILE) : ""

"""
Load libnatten from, in this order: the file that the environment variable
`NATTEN_LIBRARY` names; the place where it was installed together with this package; the
system's search path.
"""
function load_library()
    path = get(ENV, "NATTEN_LIBRARY", "")
    isempty(path) && (path = isfile(INSTALLED) ? INSTALLED : LibNATTEN.LIBRARY)
    # Once loaded, the ccalls' plain name means this file.
    dlopen(path)
    theirs, ours = LibNATTEN.natten_abi_version(), LibNATTEN.NATTEN_ABI_VERSION
    theirs == ours || throw(NattenError(LibNATTEN.NATTEN_ERR_ABI,
        "$path has ABI $theirs, this package is made for $ours"))
    check_layout(LibNATTEN.layout(), path)
end

# A struct that differs by one field would make C write beside Julia's memory.
function check_layout(layout, path)
    for (name, size, fields) in layout
        check_bytes(name, size, path)
        for (field, offset) in fields
            check_bytes("$name.$field", offset, path)
        end
    end
end

function check_bytes(name, ours, path)
    theirs = LibNATTEN.natten_layout(name)
    theirs == ours || throw(NattenError(LibNATTEN.NATTEN_ERR_ABI,
        "$name is at or of $ours bytes here, $theirs in $path"))
end

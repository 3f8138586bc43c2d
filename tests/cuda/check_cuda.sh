#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The CUDA backend without a GPU: every scenario of fake_cuda with the fake driver in
# the real one's place, and one with none.

set -u
# shellcheck disable=SC2154  # from natten-env.sh
here=$top_builddir/tests/cuda
test -f "$here/fake/libcuda.so.1" || {
    echo '1..0 # SKIP the fake driver is not built'
    exit 0
}

number=0
scenario() # SENTENCE NAME [SETTING=VALUE]...
{
    number=$((number + 1))
    sentence=$1 name=$2
    shift 2
    if env LD_LIBRARY_PATH="$here/fake${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" "$@" \
        "$here/fake_cuda" "$name"; then
        echo "ok $number - $sentence"
    else
        echo "not ok $number - $sentence"
    fi
}

scenario 'no device is a status, and the CPU works' no_device NATTEN_FAKE_INIT=100
scenario 'a driver with 0 devices is the same' no_device NATTEN_FAKE_DEVICES=0
scenario 'an old driver is told with both versions' too_old NATTEN_FAKE_VERSION=11080
scenario 'an architecture before the first is told' old_arch NATTEN_FAKE_ARCH=70
scenario 'an architecture that PTX fails on is told' unknown_arch NATTEN_FAKE_ARCH=99
scenario 'a driver that does not start is told' init_fails NATTEN_FAKE_INIT=999
scenario 'a fork after others used CUDA is told' forked_elsewhere NATTEN_FAKE_INIT=3
scenario 'a fork after we used CUDA never reaches the driver' forked
scenario 'memory of the wrong place is refused by name' wrong_memory
scenario 'launches are what the plan says, on the stream, without waiting' launches
scenario 'a launch may overlap the one before from compute capability 9.0 on' overlap \
    NATTEN_FAKE_VERSION=12030
scenario 'not where kernels do not wait by themselves' no_overlap NATTEN_FAKE_ARCH=80
scenario 'nor where PTX may not' no_overlap NATTEN_FAKE_ARCH=100
scenario 'nor in a build that has no more than PTX' ptx_overlap
scenario 'nor where a driver cannot capture it' no_overlap NATTEN_FAKE_VERSION=12020
scenario 'nor with the oldest driver' no_overlap NATTEN_FAKE_VERSION=12000
scenario 'any failing call is a status, leaks nothing, and can be repeated' failures
scenario 'arrays of the host have the bits of the whole, slab by slab' host_arrays
scenario 'a GPU with little memory takes small slabs, or says what it lacks' \
    little_memory NATTEN_FAKE_FREE=40000
scenario 'a call on arrays of the host can be stopped, and leaves nothing' host_stopped
scenario 'planning for GPUs that are not here' planning
scenario 'small windows go to tensor cores, by boxes that cost least' halo
scenario 'blocks go from tile to tile where tiles are alike, and end together' kinds
scenario 'statistics of queries are there before the gradients of keys and values' \
    statistics
scenario 'the copy engine gets the maps of the tensors that it can fetch' maps
scenario 'PTX is never asked to use the copy engine' no_maps NATTEN_FAKE_ARCH=100
scenario 'windows up to 13x13 go down bands, whose strips and groups hold all' band
scenario 'rows and groups come by maps, or by lanes' band_launches
scenario 'all gradients in one pass where queries see no further than next door' sweep
scenario 'a bias takes a warp more, and sums of its gradient a launch' sweep_bias
scenario 'it launches alone, wherever rows lie' sweep_launches
scenario 'large windows go to tensor cores, by counts that are exact' mma
scenario 'launches for large windows bring the tensors, steps and blocks of the call' \
    mma_launches
scenario 'and where shared memory is small, one stage' mma_one_stage NATTEN_FAKE_ARCH=86
scenario 'rows of 64 go to warpgroups where that counts as faster, exactly' wgmma
scenario 'they bring maps for rows and boxes, and statistics to both passes backward' \
    wgmma_launches
scenario 'a build without code of 90a does without them' no_wgmma
scenario 'gradients are added in any order by who allows it, where that is faster' added
scenario 'and then their sums are zeros first' added_launches
scenario 'the batch decides neither about kernels nor about tiles' family
scenario 'the size asked for does for every choice of gradients, bias and strides' \
    scratch

number=$((number + 1))
if ldconfig -p 2> /dev/null | grep -q 'libcuda\.so\.1'; then
    echo "ok $number - without a driver # SKIP this machine has one"
elif "$here/fake_cuda" no_driver; then
    echo "ok $number - without a driver the CPU works, and CUDA says what is missing"
else
    echo "not ok $number - without a driver the CPU works"
fi
echo "1..$number"

#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The benchmark's command: a tiny suite is a table and JSON whose numbers belong
# together, every option is taken, and a wrong one is refused with a sentence that names
# its range.  How fast anything is, is not asked.

set -u
: "${top_builddir:?}"
bench=$top_builddir/bench/natten-bench
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tests=0

# Print the result of a test, and on failure what the command said.
report()
{
    tests=$((tests + 1))
    if test "$1" -eq 0; then
        echo "ok $tests - $2"
    else
        sed 's/^/# /' "$work/out"
        echo "not ok $tests - $2"
    fi
}

# line PATTERN TITLE: the last run printed such a line.
line()
{
    grep -q -e "$1" "$work/out"
    report $? "$2"
}

# expect STATUS PATTERN TITLE OPTION...: exit status, and a line of the output.
expect()
{
    wanted=$1 pattern=$2 title=$3
    shift 3
    "$bench" "$@" > "$work/out" 2>&1
    status=$?
    test $status -eq "$wanted" && grep -q -e "$pattern" "$work/out"
    report $? "$title (exit status $status)"
}

# python TITLE: a program on standard input, that gets the JSON's name.
python()
{
    if test -z "${PYTHON:-}" || test "$PYTHON" = :; then
        tests=$((tests + 1))
        echo "ok $tests - $1 # SKIP no Python"
    else
        "$PYTHON" - "$work/results.json" > "$work/out" 2>&1
        report $? "$1"
    fi
}

cat > "$work/suite" << 'EOF'
# a comment, and an empty line

one: fwd fp32 b1 h1 d8 6x7 w3x3
bwd fp32 b1 h1 d8 6x7 w3x3
EOF
problem='fwd fp32 b1 h1 d4 9 w3'
one='--repeats=1 --seconds=0 --threads=1'

# shellcheck disable=SC2086  # options are words
{
    expect 0 "^ *1 .* $problem\$" 'the reference is timed' $one --reference "$problem"
    expect 0 '; scalar of ' 'a variant can be chosen' $one --variant scalar "$problem"
    expect 2 '^natten-bench: kernel_size\[length\]=10 not in \[1, 9\].*(fwd .* w10)$' \
        'a window that does not fit is refused' $one 'fwd fp32 b1 h1 d4 9 w10'
    expect 2 '^natten-bench: only fwd and bwd are timed (qk ' \
        'other operations are refused' $one 'qk fp32 b1 h1 d4 9 w3'
}
expect 0 ' one: fwd fp32 b1 h1 d8 6x7 w3x3$' 'a suite gives its lines, with labels' \
    --repeats=2 --seconds=0 --threads 2,1 --pin --suite "$work/suite" "$problem"
line "^ *2 .* $problem\$" 'problems follow the suite, on each number of threads'
line '^2 threads at most: multiply-adds' 'the limits of the machine stand above'

if grep -q '^#define NATTEN_HAVE_JANSSON 1' "$top_builddir/config.h"; then
    expect 0 ' bwd bf16 ' 'results go to a file too' \
        --repeats=2 --seconds=0 --threads=1,2 --types fp64,fp32,bf16 --loops \
        --suite "$work/suite" --json "$work/results.json"
    python 'that file is JSON whose numbers belong together' << 'EOF'
import json, math, sys
with open(sys.argv[1]) as file:
    all = json.load(file)
assert all["arguments"][-2:] == ["--json", sys.argv[1]], all["arguments"]
assert [c["threads"] for c in all["ceilings"]] == [1, 2]
peaks = {c["threads"]: c["fma_gflops"].get(all["variant"]) for c in all["ceilings"]}
rows = all["results"]
assert len(rows) == 2 * 3 * 2 and [r["label"] for r in rows] == ["one"] * 6 + [""] * 6
for r in rows:
    operation, type = r["problem"].split()[:2]
    group = [x for x in rows if x["problem"].split()[0] == operation]
    pairs = 6 * 7 * 9
    assert r["flop"] == (4 if operation == "fwd" else 10) * 8 * pairs
    assert r["samples"] >= 2 and 0 < r["minimum_seconds"] <= r["median_seconds"]
    assert math.isclose(r["gflops"], 1e-9 * r["flop"] / r["minimum_seconds"])
    assert 0 < r["error"] <= 1
    assert (r["times_loops"] is not None) == (type == "fp32")
    peak = peaks[r["threads"]]
    if peak:
        share = r["gflops"] / peak["fp64" if type == "fp64" else "fp32"]
        assert math.isclose(r["share_of_peak"], share)
        upstream = (4.7 if operation == "fwd" else 2.2) / 235
        assert math.isclose(r["times_upstream"], share / upstream)
    if all["openblas"]:
        assert math.isclose(r["ratio_to_gemm"], r["gflops"] / r["gemm_gflops"])
        assert r["gemm_median_gflops"] <= r["gemm_gflops"]
    one = [x for x in group if x["problem"] == r["problem"] and x["threads"] == 1][0]
    speedup = one["median_seconds"] / r["median_seconds"]
    assert math.isclose(r["speedup"], speedup)
    single = [x for x in group if x["problem"].split()[1] == "fp32"
              and x["threads"] == r["threads"]][0]
    ratio = single["minimum_seconds"] / r["minimum_seconds"]
    assert math.isclose(r["ratio_to_fp32"], ratio)
EOF
    expect 3 'none/x.json: No such file' 'a file that can not be written is missed' \
        --json "$work/none/x.json" "$problem"
else
    expect 3 '--json: this build has no jansson' 'JSON is refused without jansson' \
        --json "$work/x.json" "$problem"
fi

expect 2 '--threads=0 not in \[1, 256\]' 'no threads are refused' --threads 1,0
expect 2 '--threads=x not in \[1, 256\]' 'a number that is none is refused' -t x
expect 2 '--threads=1.5 is no integer' 'half a thread is refused' -t 1.5
expect 2 '--threads: no number' 'an empty list is refused' --threads ,
expect 2 '--threads: more than 8 numbers' 'a list has an end' -t 1,1,1,1,1,1,1,1,1
expect 2 '--types=fp8 not in {fp64, fp32, bf16, fp16}' 'an unknown type is refused' \
    --types fp32,fp8
expect 2 '--types: fp32 twice' 'a type is given once' --types fp32,fp32
expect 2 '--repeats=0 not in \[1, 1000\]' 'no repeats are refused' --repeats 0
expect 2 '--seconds=-1 not in \[0, 3600\]' 'less than no time is refused' --seconds=-1
expect 2 'mmx.*scalar' 'an unknown variant is refused' --variant mmx
expect 2 'unrecognized option' 'an unknown option is refused' --frobnicate
expect 3 'none: No such file' 'a suite that is not there is missed' -s "$work/none"
expect 2 'at "x3".*(fwd fp32 b1 h1 d4 9 x3)$' 'a text that is none is refused' \
    'fwd fp32 b1 h1 d4 9 x3'
echo "1..$tests"

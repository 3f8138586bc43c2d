#!/bin/sh
# SPDX-License-Identifier: MIT
#
# What natten forward, backward, qk, av and merge compute, held against each other and
# against cases whose answer is known: everything here is exact, bit for bit.

# shellcheck disable=SC2154  # from natten-env.sh
. "$top_srcdir/tests/command/support.sh"

random q.npy '1, 11, 7, 2, 3' 462 1
random k.npy '1, 11, 7, 1, 3' 231 2
random v.npy '1, 11, 7, 1, 5' 385 3
random g.npy '1, 11, 7, 2, 5' 770 4
random ak.npy '1, 2, 1, 3' 6 5
random av.npy '1, 2, 1, 5' 10 6
random bias.npy '2, 5, 9' 90 7
random gl.npy '1, 11, 7, 2' 154 8
window='--kernel-size 3,5 --dilation 2,1 --stride 2 --is-causal 1,0 --scale 0.5'
extras='--additional-keys ak.npy --additional-values av.npy'
more="$window $extras --bias bias.npy --dtype fp32"

# shellcheck disable=SC2086  # lists of options
run()
{
    command=$1 arguments=$2
    shift 2
    exits 0 $command $arguments $more "$@"
}

a_window_of_one_copies_value()
{
    exits 0 forward q.npy k.npy v.npy --kernel-size 1 --out o.npy &&
        exits 0 forward k.npy k.npy v.npy --kernel-size 1 --out o.npy &&
        same o.npy v.npy
}
check 'a window of one token copies value' a_window_of_one_copies_value

files='q.npy k.npy v.npy'
check 'forward with every option writes out and lse' \
    run forward "$files" --out out.npy --lse lse.npy
check 'backward computes out and lse when they are not given' \
    run backward "$files" --grad-out g.npy --grad-lse gl.npy --grad-query dq.npy \
    --grad-key dk.npy --grad-value dv.npy --grad-bias db.npy \
    --grad-additional-keys dak.npy --grad-additional-values dav.npy

given()
{
    run backward "$files" --out out.npy --lse lse.npy --grad-out g.npy \
        --grad-lse gl.npy --grad-query dq2.npy --grad-bias db2.npy --threads 1 &&
        same dq.npy dq2.npy && same db.npy db2.npy
}
check 'given out and lse make the same gradients, on one thread too' given

# The two halves of the queries as parts of the grid: rows 0 to 5 and 6 to 10.
halves()
{
    data q.npy | head -c $((6 * 7 * 2 * 3 * 2)) > q1.bin
    data q.npy | tail -c +$((6 * 7 * 2 * 3 * 2 + 1)) > q2.bin
    header '1, 6, 7, 2, 3' q1.bin > q1.npy
    header '1, 5, 7, 2, 3' q2.bin > q2.npy
    run forward 'q1.npy k.npy v.npy' --grid-length 11,7 --out o1.npy &&
        run forward 'q2.npy k.npy v.npy' --grid-length 11,7 --query-begin 6,0 \
            --out o2.npy || return
    data o1.npy > whole.bin
    data o2.npy >> whole.bin
    data out.npy > out.bin
    same whole.bin out.bin
}

# header SHAPE DATAFILE: an fp16 file from bare data.
header()
{
    : | npy .header '<f2' "$1"
    cat .header "$2"
}
check 'halves of the queries, as parts of a grid, make the whole' halves

merged()
{
    exits 0 merge out.npy lse.npy --out mo.npy --lse ml.npy &&
        same mo.npy out.npy && same ml.npy lse.npy
}
check 'merge of one part is that part' merged

# Keys split at row 5: each key is in one part, the extra tokens in the first.
# shellcheck disable=SC2086  # lists of options
split_keys()
{
    for tensor in k:3 v:5; do
        name=${tensor%:*} size=$((5 * 7 * ${tensor#*:} * 2))
        data "$name.npy" | head -c $size > part.bin
        header "1, 5, 7, 1, ${tensor#*:}" part.bin > "${name}1.npy"
        data "$name.npy" | tail -c +$((size + 1)) > part.bin
        header "1, 6, 7, 1, ${tensor#*:}" part.bin > "${name}2.npy"
    done
    run forward 'q.npy k1.npy v1.npy' --grid-length 11,7 --out p1.npy --lse l1.npy &&
        exits 0 forward q.npy k2.npy v2.npy $window --bias bias.npy --dtype fp32 \
            --grid-length 11,7 --key-begin 5,0 --out p2.npy --lse l2.npy &&
        exits 0 merge p1.npy l1.npy p2.npy l2.npy --out mo.npy --lse ml.npy || return
    has_python || return 0
    "$PYTHON" - << 'END'
import numpy as np
for whole, merged in (("out.npy", "mo.npy"), ("lse.npy", "ml.npy")):
    np.testing.assert_allclose(np.load(merged), np.load(whole), rtol=3e-6, atol=3e-6)
END
}
check 'parts of the keys merge to the whole' split_keys

# The gradients of the parts that split_keys() left, by section 9's formulas.
merged_gradients()
{
    exits 0 merge p1.npy l1.npy p2.npy l2.npy --grad-out g.npy --grad-lse gl.npy \
        --dtype fp32 --lse ml2.npy --grad-outputs do1.npy --grad-outputs do2.npy \
        --grad-lses dl1.npy --grad-lses dl2.npy && same ml.npy ml2.npy || return
    exits 0 merge p1.npy l1.npy p2.npy l2.npy --grad-out g.npy --grad-lse gl.npy \
        --dtype fp32 --grad-lses only1.npy --grad-lses only2.npy &&
        same only1.npy dl1.npy && same only2.npy dl2.npy || return
    has_python || return 0
    "$PYTHON" - << 'END'
import numpy as np
g, gl, out, lse = (np.load(f + ".npy").astype(float) for f in ("g", "gl", "mo", "ml"))
for part in "12":
    o, l = (np.load(f + part + ".npy").astype(float) for f in "pl")
    p = np.exp(l - lse)
    wanted = {"do": p[..., None] * g, "dl": p * (gl + (g * (o - out)).sum(-1))}
    for name, gradient in wanted.items():
        np.testing.assert_allclose(
            np.load(name + part + ".npy"), gradient, rtol=3e-6, atol=3e-6
        )
END
}
check "merge gives the parts' gradients" merged_gradients

pair()
{
    exits 0 qk q.npy k.npy --kernel-size 3 --attn a.npy &&
        exits 0 av a.npy v.npy --kernel-size 3 --out ao.npy &&
        exits 0 qk q.npy k.npy --kernel-size 3 --grad-attn a.npy --grad-query aq.npy \
            --grad-key ak2.npy --grad-bias ab.npy &&
        exits 0 av a.npy v.npy --kernel-size 3 --grad-out g.npy --grad-attn ga.npy \
            --grad-value gv.npy
}
check 'qk, av and their gradients go together' pair

# Against the fused operation, where a language with a softmax is at hand.
if has_python; then
    unfused()
    {
        exits 0 qk q.npy k.npy $more --attn logits.npy || return
        "$PYTHON" - << 'END' || return
import numpy as np
x = np.load("logits.npy").astype(np.float64)
x = np.exp(x - x.max(-1, keepdims=True))
np.save("weights.npy", (x / x.sum(-1, keepdims=True)).astype(np.float32))
END
        # av has neither scale nor bias, and the weights are fp32 already.
        exits 0 av weights.npy v.npy --kernel-size 3,5 --dilation 2,1 --stride 2 \
            --is-causal 1,0 --additional-values av.npy --dtype fp32 --out fused.npy &&
            "$PYTHON" - << 'END'
import numpy as np
np.testing.assert_allclose(np.load("fused.npy"), np.load("out.npy"), rtol=3e-6,
                           atol=3e-6)
END
    }
    # A scale is an option of qk, and one of them all.
    more="$window --additional-keys ak.npy --bias bias.npy --dtype fp32"
    check 'softmax between qk and av is forward' unfused
    more="$window $extras --bias bias.npy --dtype fp32"
else
    skip 'softmax between qk and av is forward' 'no Python with NumPy'
fi

threads()
{
    for n in 1 2 3; do
        run forward "$files" --out "t$n.npy" --threads $n || return
    done
    same t1.npy out.npy && same t2.npy out.npy && same t3.npy out.npy
}
check 'the number of threads changes no bit' threads

explained()
{
    run forward "$files" --out reference.npy --explain --backend reference &&
        grep -q reference err && grep -q 'fwd fp32 b1 h2:1 d3:5 11x7 w3x5' err &&
        test ! -s out
}
check '--explain tells the plan on standard error' explained

to_stdout()
{
    run forward "$files" --out /dev/stdout && same out out.npy
}
check 'an array can go to standard output that is a file' to_stdout

# shellcheck disable=SC2086  # lists of options
to_pipe()
{
    "$natten" forward $files $more --out /dev/stdout | cat > piped
    same piped out.npy
}
check 'an array can go to a pipe' to_pipe

to_named_pipe()
{
    mkfifo fifo && { cat fifo > piped & } &&
        run forward "$files" --out fifo && wait && same piped out.npy
}
check 'an array can go to a named pipe' to_named_pipe

in_place()
{
    cp v.npy io.npy &&
        exits 0 forward q.npy k.npy io.npy --kernel-size 3 --out expected.npy &&
        exits 0 forward q.npy k.npy io.npy --kernel-size 3 --out io.npy &&
        same io.npy expected.npy
}
check 'an output may replace an input' in_place

if script -qec true /dev/null > /dev/null 2>&1; then
    # A window over the whole grid, pair by pair: some seconds.
    octals 65536 1 'printf "\\000\\100"' | npy large.npy '<f2' '1, 64, 64, 2, 8'
    slow='forward large.npy large.npy large.npy --kernel-size 63 --backend reference'
    bar()
    {
        # shellcheck disable=SC2086  # a list of options
        script -qec "'$natten' $slow --out l.npy" /dev/null > seen < /dev/null
        grep -q 'forward \[ *####' seen || return
        # shellcheck disable=SC2086  # a list of options
        "$natten" $slow --out l.npy 2>&1 | cat > piped
        ! grep -q '\[' piped
    }
    check 'a terminal sees that a long call lives, a pipe nothing' bar
else
    skip 'a terminal sees that a long call lives, a pipe nothing' 'no script(1)'
fi

bits()
{
    # 2 in bf16, 16 times; a window of one keeps them.
    octals 16 1 'printf "\\000\\100"' | npy bits.npy '<u2' '1, 4, 2, 2'
    exits 0 forward bits.npy bits.npy bits.npy --kernel-size 1 --dtype bf16 \
        --out b.npy && same b.npy bits.npy
}
check 'bf16 comes as uint16 bits and goes as such' bits

if "$natten" info --json > /dev/null 2>&1; then
    json()
    {
        run forward "$files" --out out.npy --json &&
            grep -q '"operation": "forward"' out && grep -q '"seconds": ' out
    }
    check '--json reports on standard output' json
    merge_json()
    {
        exits 0 merge p1.npy l1.npy p2.npy l2.npy --grad-out g.npy --dtype fp32 \
            --grad-outputs do1.npy --grad-outputs do2.npy --grad-lses dl1.npy \
            --grad-lses dl2.npy --json && tr -d ' \n' < out > flat &&
            grep -q '"grad_out":"g.npy","outputs":\["p1.npy","p2.npy"\]' flat &&
            grep -q '"lses":\["l1.npy","l2.npy"\]' flat &&
            grep -q '"grad_outputs":\["do1.npy","do2.npy"\]' flat &&
            grep -q '"grad_lses":\["dl1.npy","dl2.npy"\]' flat
    }
    check '--json of merge names the files of all parts' merge_json
    # Whoever reads the gradient makes the writer wait.
    merge_seconds()
    {
        mkfifo slow && { (sleep 2 && cat slow) > /dev/null & } &&
            exits 0 merge p1.npy l1.npy --grad-out g.npy --dtype fp32 \
                --grad-lses slow --json && wait && grep -q '"seconds": [01]\.' out
    }
    check 'seconds of merge are those of the computation' merge_seconds
else
    skip '--json reports on standard output' 'built without jansson'
    skip '--json of merge names the files of all parts' 'built without jansson'
    skip 'seconds of merge are those of the computation' 'built without jansson'
fi
finish

# SPDX-License-Identifier: MIT
"""Print what natten-bench found as Markdown, for docs/ and bench/results/.

    scripts/bench --pin --json cpu.json
    python3 bench/cpu_table.py cpu.json

Machine, compiler, commit and command; the machine's limits; then for each type a table
with a row for each problem and pass and, side by side, each number of threads.  Columns
that say nothing are left out.
"""

import argparse
import json
import shlex
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PASSES = {"fwd": "forward", "bwd": "backward"}
# Name in JSON, in the table, and how it is written.
COLUMNS = [
    ("median_seconds", "median ms", lambda x: f"{1e3 * x:.{4 if x < 1e-4 else 2}f}"),
    ("gflops", "GFLOP/s", "{:.1f}".format),
    ("share_of_peak", "peak", "{:.2f}".format),
    ("ratio_to_gemm", "ratio", "{:.2f}".format),
    ("speedup", "faster", "{:.2f}".format),
    ("ratio_to_fp32", "fp32", "{:.2f}".format),
    ("times_loops", "loops", "{:.1f}".format),
    ("times_upstream", "upstream", "{:.1f}".format),
]


def commit():
    """Of the checkout that this program is in; None without one."""
    try:
        return subprocess.run(
            ["git", "-C", ROOT, "describe", "--always", "--dirty"],
            check=True, capture_output=True, text=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def heading(facts):
    build = dict(line.split(" ", 1) for line in facts["build"].splitlines())
    said = [facts["processor"], f"{facts['variant']} kernels", build["compiler"],
            facts["openblas"] or "no OpenBLAS",
            f"commit {commit()}" if commit() else f"version {facts['version']}"]
    return "; ".join(said) + f". `natten-bench {shlex.join(facts['arguments'])}`:"


def limits(facts):
    sets = list(facts["ceilings"][0]["fma_gflops"])
    lines = [
        "| threads | " + "".join(f"{s} fp32 | fp64 | " for s in sets)
        + "L2 GB/s | memory GB/s |",
        "|---" * (3 + 2 * len(sets)) + "|",
    ]
    for c in facts["ceilings"]:
        numbers = [c["fma_gflops"][s][type] for s in sets for type in ("fp32", "fp64")]
        numbers += [c["l2_read_gbs"], c["memory_read_gbs"]]
        cells = ["-" if n is None else f"{n:.1f}" for n in numbers]
        lines.append("| " + " | ".join([str(c["threads"]), *cells]) + " |")
    return "\n".join(lines)


def type_of(row):
    return row["problem"].split()[1]


def problem_of(row):
    """Without its type: "P1 forward", or the text where it has no label."""
    operation, _, text = row["problem"].split(" ", 2)
    return f"{row['label'] or text} {PASSES[operation]}"


def is_news(name, threads, rows):
    """Has the column anything to say of this number of threads?"""
    if name == "speedup" and threads == rows[0]["threads"]:
        return False
    if name == "ratio_to_fp32" and type_of(rows[0]) == "fp32":
        return False
    return any(r[name] is not None for r in rows if r["threads"] == threads)


def table(rows):
    """Of one type."""
    counts = list(dict.fromkeys(row["threads"] for row in rows))
    columns = [(threads, *column) for threads in counts for column in COLUMNS
               if is_news(column[0], threads, rows)]
    titles = [
        (f"{threads} thread{'s' * (threads > 1)}: " if column == 0 else "") + title
        for threads in counts
        for column, (_, _, title, _) in enumerate(
            c for c in columns if c[0] == threads
        )
    ]
    lines = [
        f"| {type_of(rows[0])} | " + " | ".join(titles) + " |",
        "|---" * (1 + len(columns)) + "|",
    ]
    found = {(problem_of(row), row["threads"]): row for row in rows}
    for problem in dict.fromkeys(problem_of(row) for row in rows):
        cells = [problem]
        for threads, name, _, write in columns:
            value = found[problem, threads][name]
            cells.append("-" if value is None else write(value))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    facts = json.loads(parser.parse_args(arguments).results.read_text())
    rows = facts["results"]
    tables = [
        table([row for row in rows if type_of(row) == type])
        for type in dict.fromkeys(type_of(row) for row in rows)
    ]
    print(heading(facts), limits(facts), *tables, sep="\n\n")


if __name__ == "__main__":
    main()

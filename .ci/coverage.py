#!/usr/bin/env python3
"""Holds sources to full line coverage, from the JSON that `cargo llvm-cov --json` writes.

usage: coverage.py REPORT PREFIX...

A prefix is a file or a folder, relative to the repository's root. Every line that can run, of every file below
a prefix, must have run. Uncovered lines are named as `file:line`. A prefix that matches nothing in the report
fails as well: an empty report covers nothing.

The lines are worked out from the segments, as llvm-cov does for its own views, because the report's summaries
say how many lines are uncovered and not which. A closure that never ran on a line that did is found among the
functions. Where the summary of a file still counts a line more, that fails too.

exit status: 0 every line is covered; 1 a line is not, or a prefix matches nothing; 2 the report cannot be read.
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FORMAT = "llvm.coverage.json.export"


class UnreadableReport(Exception):
    pass


def read_report(path):
    """The files of the report, by their paths relative to the root."""
    try:
        report = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UnreadableReport(f"{path}: {error}") from error
    if not isinstance(report, dict) or report.get("type") != FORMAT:
        raise UnreadableReport(f"{path}: not a report of type `{FORMAT}`")
    try:
        idle = idle_functions(function for export in report["data"] for function in export["functions"])
        files = [file for export in report["data"] for file in export["files"]]
        return {relative(file["filename"]): File(file, idle.get(file["filename"], set())) for file in files}
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise UnreadableReport(f"{path}: not as llvm-cov writes it ({error!r})") from error


def idle_functions(functions):
    """The first lines of the functions that never ran, by file. Instances of a generic function count as one."""
    runs = {}
    for function in functions:
        line, column = function["regions"][0][:2]
        place = (function["filenames"][0], int(line), int(column))
        runs[place] = runs.get(place, 0) + int(function["count"])
    idle = {}
    for (filename, line, _), count in runs.items():
        if count == 0:
            idle.setdefault(filename, set()).add(line)
    return idle


def relative(filename):
    path = Path(filename)
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.as_posix()


class Segment:
    """Where the count of the source changes: from here up to the next segment it is `count`."""

    def __init__(self, line, column, count, has_count, is_entry, is_gap):
        self.line, self.count = int(line), int(count)
        # Code that can run, as against whitespace between regions and code that is compiled out.
        self.has_count = bool(has_count)
        self.starts_skipped = bool(is_entry) and not has_count
        self.starts_counted = bool(is_entry) and bool(has_count)
        self.starts_region = self.starts_counted and not is_gap


class File:
    """What the report says of one file."""

    def __init__(self, report, idle):
        counts = line_counts([Segment(*segment) for segment in report["segments"]])
        self.lines = len(counts)
        self.uncovered = sorted({line for line, count in counts.items() if count == 0} | idle)
        summary = report["summary"]["lines"]
        self.unexplained = 0 if self.uncovered else int(summary["count"]) - int(summary["covered"])


def line_counts(segments):
    """How often each line that can run has run: LLVM's `LineCoverageStats`."""
    counts = {}
    by_line = {}
    for segment in segments:
        by_line.setdefault(segment.line, []).append(segment)
    wrapped = None
    for line in range(min(by_line), max(by_line) + 1) if by_line else []:
        here = by_line.get(line, [])
        starting = [segment.count for segment in here if segment.starts_region]
        skipped = bool(here) and here[0].starts_skipped
        inside = wrapped is not None and wrapped.has_count
        if (not skipped and (inside or starting)) or any(segment.starts_counted for segment in here):
            counts[line] = max(starting + ([wrapped.count] if wrapped is not None else []), default=0)
        wrapped = here[-1] if here else wrapped
    return counts


def below(prefix, name):
    return name == prefix or name.startswith(prefix + "/")


def is_test(path):
    return "tests" in path.with_suffix("").parts


def check(files, prefixes):
    """Prints a table and what is wrong; answers whether anything is."""
    problems = []
    rows = []
    for prefix in (prefix.strip("/") for prefix in prefixes):
        lines_of_prefix = 0
        for name in sorted(name for name in files if below(prefix, name)):
            file = files[name]
            rows.append((name, file.lines, len(file.uncovered)))
            problems += [f"{name}:{line}: not covered" for line in file.uncovered]
            if file.unexplained:
                problems.append(f"{name}: its summary counts {file.unexplained} uncovered, on lines that ran in part")
            lines_of_prefix += file.lines
        if lines_of_prefix == 0:
            problems.append(f"{prefix}: the report has no line of it")
        # A file with nothing to run is not in the report. It is listed, so that one that should be is missed.
        on_disk = [path for path in (ROOT / prefix).rglob("*.rs") if not is_test(path.relative_to(ROOT))]
        rows += [(name, 0, 0) for name in sorted(map(relative, on_disk)) if name not in files]

    width = max([len(name) for name, _, _ in rows], default=4)
    print(f"{'file':{width}}  lines  uncovered  covered")
    rows.append(("total", sum(row[1] for row in rows), sum(row[2] for row in rows)))
    for name, lines, uncovered in rows:
        share = f"{100 * (lines - uncovered) / lines:.2f}%" if lines else "nothing to run"
        print(f"{name:{width}}  {lines:5}  {uncovered:9}  {share}")
    for problem in problems:
        print(problem)
    return bool(problems)


def main(arguments):
    if len(arguments) < 2:
        print("usage: coverage.py REPORT PREFIX...", file=sys.stderr)
        return 2
    try:
        files = read_report(arguments[0])
    except UnreadableReport as error:
        print(f"coverage: {error}", file=sys.stderr)
        return 2
    return int(check(files, arguments[1:]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

#!/usr/bin/env python3
"""Writes docs/conformance.md: each normative statement of MQTT 3.1.1 with the tests that name it.

    scripts/conformance.py            write the page
    scripts/conformance.py --check    fail if the page is stale, a server's statement has no test, or an id is unknown

A test names a statement by its id in square brackets, `[MQTT-3.1.0-2]`, in the doc comment of its `#[test]` function.
The statements are those of docs/mqtt-3.1.1-statements.md.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
STATEMENTS = ROOT / "docs/mqtt-3.1.1-statements.md"
PAGE = ROOT / "docs/conformance.md"
SOURCES = ["shard", "src", "tests"]

# Statements that bind servers and need no test, and why. A test that names one all the same is listed.
EXCEPTIONS = {
    "7.0.0-1": "the broker opens no connections to other servers",
}

HEAD = """\
# Conformance

Every normative statement of MQTT 3.1.1 and the tests that name it. Written by `scripts/conformance.py` from the tests' doc
comments; do not edit. The statements are in our own words; where they and the standard differ, the standard is right.
S and s bind a server (s shows only inside it), C binds clients only.

{tested} of {bound} statements that bind a server have tests; {excepted} are excepted, with the reason.

| statement | who | in short | tests |
|---|---|---|---|
"""


def statements():
    """The rows (id, who, in short) of the list, in its order."""
    row = re.compile(r"^\| (\d+\.\d+\.\d+-\d+) \| ([SsC]) \| (.*) \|$")
    return [match.groups() for line in STATEMENTS.read_text().splitlines() if (match := row.match(line))]


def tests():
    """The pairs (id, place of a test that names it), and the number of tests."""
    found, count = [], 0
    for path in sorted(path for folder in SOURCES for path in (ROOT / folder).rglob("*.rs")):
        doc, is_test = [], False
        for line in path.read_text().splitlines():
            line = line.strip()
            if line.startswith("///"):
                doc.append(line)
            elif line.startswith("#["):
                is_test = is_test or line == "#[test]"
            elif line:
                name = re.match(r"(?:pub )?(?:async )?fn (\w+)", line)
                if name and is_test:
                    count += 1
                    place = f"{path.relative_to(ROOT)}: `{name[1]}`"
                    found += [(id, place) for id in re.findall(r"\[MQTT-(\d+\.\d+\.\d+-\d+)\]", " ".join(doc))]
                doc, is_test = [], False
    return found, count


def main():
    rows = statements()
    found, count = tests()
    by_id = {}
    for id, place in found:
        by_id.setdefault(id, []).append(place)

    problems = [f"no such statement: [MQTT-{id}], named by {places[0]}" for id, places in by_id.items()
                if id not in {row[0] for row in rows}]
    lines, tested = [], 0
    for id, who, short in rows:
        places = by_id.get(id, [])
        tested += bool(places) and who != "C"
        if places:
            files = {}
            for place in dict.fromkeys(places):
                file, name = place.split(": ")
                files.setdefault(file, []).append(name)
            text = "<br>".join(f"{file}: {', '.join(names)}" for file, names in files.items())
        elif who == "C":
            text = "binds clients"
        elif id in EXCEPTIONS:
            text = f"excepted: {EXCEPTIONS[id]}"
        else:
            text = "**none**"
            problems.append(f"no test names [MQTT-{id}]: {short}")
        lines.append(f"| {id} | {who} | {short} | {text} |\n")
    bound = sum(who != "C" for _, who, _ in rows)
    excepted = sum(id in EXCEPTIONS and id not in by_id for id, _, _ in rows)
    page = HEAD.format(tested=tested, bound=bound, excepted=excepted) + "".join(lines)

    if "--check" in sys.argv[1:]:
        if not PAGE.exists() or PAGE.read_text() != page:
            problems.append("docs/conformance.md is stale: run scripts/conformance.py")
    else:
        PAGE.write_text(page)
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{tested} of {bound} statements that bind a server are named by tests, {excepted} excepted; {count} tests read")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())

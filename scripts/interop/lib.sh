# Sourced by the scripts that run the broker against programs that nobody here wrote: how those get here, and how cases are counted.
# shellcheck shell=bash

missing() {
    echo "SKIPPED, NOT TESTED: $*" >&2
    [[ ${CI:-} == true ]] && exit 1
    exit 77
}

# need_node PACKAGE@VERSION...: Node itself, and these packages in $NODE.
need_node() {
    NODE=$(cd "${CARGO_TARGET_DIR:-target}" && pwd)/interop-node
    if ! command -v npm >/dev/null; then
        { apt-get update -qq && apt-get install -y -qq --no-install-recommends nodejs npm; } >/dev/null 2>&1 ||
            missing "Node is not installed and could not be"
    fi
    local package wanted=()
    for package in "$@"; do
        [[ -f $NODE/node_modules/${package%@*}/package.json ]] || wanted+=("$package")
    done
    if ((${#wanted[@]} > 0)); then
        # What the file names stays when more is installed.
        mkdir -p "$NODE" && { [[ -f $NODE/package.json ]] || echo '{"private":true}' >"$NODE/package.json"; }
        timeout 120 npm install --prefix "$NODE" --silent --no-audit --no-fund --ignore-scripts "$@" >/dev/null ||
            missing "${wanted[*]} could not be installed into $NODE"
    fi
}

PASSED=0 FAILED=0
check() { # NAME EXPECTED ACTUAL
    if [[ $2 == "$3" ]]; then
        PASSED=$((PASSED + 1))
        printf 'ok    %s, %s shards\n' "$1" "$SHARDS"
    else
        FAILED=$((FAILED + 1))
        printf 'FAIL  %s, %s shards\n      expected: %q\n      actual:   %q\n' "$1" "$SHARDS" "$2" "$3"
    fi
}

# Counts the lines of a program of cases.
report() { # NAME
    local verdict name detail ended=0
    while IFS=$'\t' read -r verdict name detail; do
        case $verdict in
        ok) check "$1: $name" ok ok ;;
        FAIL) check "$1: $name" ok "$detail" ;;
        end) ended=1 ;;
        *) check "$1: the test program itself" "" "$verdict $name $detail" ;;
        esac
    done
    check "$1: all cases ran" 1 "$ended"
}

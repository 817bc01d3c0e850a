#!/usr/bin/env bash
# Builds the fuzz targets and runs them one after the other; see docs/fuzzing.md.
#
#   scripts/fuzz.sh [--seconds N] [--hours H] [TARGET…]   N seconds a target (default 60), or H hours for all together
#   scripts/fuzz.sh --build [TARGET…]                     builds only
#   scripts/fuzz.sh --replay TARGET FILE…                 runs single inputs, and says what happens
#   scripts/fuzz.sh --seeds                               writes the hand-made inputs into the corpora
#   scripts/fuzz.sh --merge [TARGET…]                     adds to the committed corpora what the last runs found, minimised
#   scripts/fuzz.sh --coverage                            lines and regions of shard/ that the committed corpora reach
#
# Ends with 1 if a target found something, and says how to see it again. Needs the stable toolchain and a C++ compiler.
set -euo pipefail
cd "$(dirname "$0")/.."

targets=(config decode encode topic shard websocket)
triple=$(rustc -vV | sed -n 's/^host: //p')
target_dir=${CARGO_TARGET_DIR:-$PWD/target}/fuzz
work=$target_dir/found
seconds=60
chosen=()

usage() {
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"
}

# Coverage for libFuzzer, as `cargo fuzz` asks for it. These are options of the code generator, so the stable compiler takes
# them; they go to the target's crates only, since a --target is given.
build() {
    local target pass features
    for target in "$@"; do
        # With FUZZ_FEATURES=planted-faults, RINGMQ_FAULT chooses a mistake of the core.
        features=(--features "${FUZZ_FEATURES:-}")
        [[ $target != config && $target != websocket ]] || features+=(--features process)
        pass="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
        pass+=" -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
        # What is compared helps to write text and numbers. It costs the shard half of its speed, and its input has neither.
        [[ $target == shard ]] || pass+=" -Cllvm-args=-sanitizer-coverage-trace-compares"
        RUSTFLAGS="$pass" cargo build --release --locked --manifest-path fuzz/Cargo.toml --target "$triple" \
            --target-dir "$target_dir" ${CARGO_BUILD_ARGS:-} "${features[@]}" --bin "$target"
    done
}

binary() {
    echo "$target_dir/$triple/release/$1"
}

# Inputs are at most so long: longer ones are slower, and rarely find more.
length_max() {
    case $1 in
        shard) echo 2048 ;;
        # A request may have 8 KiB.
        websocket) echo 9000 ;;
        *) echo 1024 ;;
    esac
}

run() {
    local target=$1 budget=$2 log=$work/$1.log
    mkdir -p "$work/$target" "fuzz/corpus/$target"
    local options=(-max_total_time="$budget" -max_len="$(length_max "$target")" -timeout=10 -rss_limit_mb=2048
        -artifact_prefix="$work/$target-" -print_final_stats=1)
    [[ $target == shard ]] || options+=(-use_value_profile=1)
    echo "fuzz: $target, $budget s"
    # What is new goes into the first folder; the committed corpus is only read.
    if "$(binary "$target")" "${options[@]}" "$work/$target" "fuzz/corpus/$target" >"$log" 2>&1; then
        grep -E '^stat::(number_of_executed_units|average_exec_per_sec|peak_rss_mb)' "$log" | sed 's/^stat::/  /'
        grep -E '^#.*cov:' "$log" | tail -n 1 | sed -E 's/.*(cov: [0-9]+).*(corp: [0-9]+).*/  \1 edges, \2 inputs/'
        return 0
    fi
    grep -E 'panicked at|ERROR: libFuzzer' -A 3 "$log" | head -n 12
    local input
    input=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
    echo "fuzz: $target FOUND SOMETHING; see it again with"
    echo "  scripts/fuzz.sh --replay $target ${input:-"<no input was written, see $log>"}"
    if [[ -n $input ]]; then
        echo "or, where that file is not:"
        echo "  base64 -d <<<$(base64 -w 0 "$input") >/tmp/$target-input && scripts/fuzz.sh --replay $target /tmp/$target-input"
    fi
    return 1
}

replay() {
    local target=$1
    shift
    build "$target"
    RUST_BACKTRACE=1 "$(binary "$target")" "$@"
}

merge() {
    local target=$1 kept
    kept=$(mktemp -d)
    mkdir -p "$work/$target" "fuzz/corpus/$target"
    # Names given by people stay: they are regressions, or explain themselves.
    "$(binary "$target")" -set_cover_merge=1 -use_counters=0 -max_len="$(length_max "$target")" "$kept" "fuzz/corpus/$target" "$work/$target" 2>&1 | tail -n 1
    find "fuzz/corpus/$target" -type f -regextype posix-extended -regex '.*/[0-9a-f]{40}' -delete
    cp -n "$kept"/* "fuzz/corpus/$target/"
    rm -r "$kept"
    echo "fuzz: $target has $(find "fuzz/corpus/$target" -type f | wc -l) inputs," \
        "$(find "fuzz/corpus/$target" -type f -printf '%s\n' | awk '{ sum += $1 } END { print sum + 0 }') bytes"
}

# Source coverage needs llvm-profdata and llvm-cov of the LLVM that rustc is built with: as packages of the system
# (llvm-profdata-NN), or of the toolchain (rustup component add llvm-tools).
llvm() {
    local version own
    version=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
    own=$(rustc --print sysroot)/lib/rustlib/$triple/bin/llvm-$1
    if [[ -x $own ]]; then echo "$own"; else command -v "llvm-$1-$version"; fi
}

coverage() {
    local profile=$target_dir/coverage profdata cov test
    profdata=$(llvm profdata) && cov=$(llvm cov) || { echo "fuzz: there is no llvm-cov of rustc's LLVM" >&2 && exit 2; }
    mkdir -p "$profile"
    rm -f "$profile"/*.profraw
    RUSTFLAGS="-Cinstrument-coverage" LLVM_PROFILE_FILE="$profile/%p.profraw" \
        cargo test --locked --release -p ringmq-shard --test corpora --target-dir "$profile/target" ${CARGO_BUILD_ARGS:-} -- --test-threads=1
    "$profdata" merge -sparse "$profile"/*.profraw -o "$profile/merged.profdata"
    test=$(find "$profile/target/release/deps" -name 'corpora-*' -type f -executable -printf '%T@ %p\n' | sort -n | tail -n 1 | cut -d ' ' -f 2)
    "$cov" report "$test" -instr-profile="$profile/merged.profdata" \
        -ignore-filename-regex='(/registry/|/rustc/|/tests/|/src/[a-z]+/fuzz|/src/simulation/|library/)' \
        -show-branch-summary=false
}

mode=run
while (($#)); do
    case $1 in
        --seconds) seconds=$2 && shift ;;
        --hours) hours=$2 && shift ;;
        --replay) mode=replay ;;
        --merge) mode=merge ;;
        --build) mode=build ;;
        --seeds) mode=seeds ;;
        --coverage) mode=coverage ;;
        -h | --help) usage && exit 0 ;;
        -*) usage >&2 && exit 2 ;;
        *) chosen+=("$1") ;;
    esac
    shift
done

case $mode in
    replay) replay "${chosen[@]}" && exit ;;
    coverage) coverage && exit ;;
    seeds)
        cargo run --release --locked --manifest-path fuzz/Cargo.toml --target-dir "$target_dir" \
            ${CARGO_BUILD_ARGS:-} --bin seeds -- fuzz/corpus
        exit
        ;;
esac

((${#chosen[@]})) || chosen=("${targets[@]}")
for target in "${chosen[@]}"; do
    [[ " ${targets[*]} " == *" $target "* ]] || { echo "fuzz: no target $target; there are ${targets[*]}" >&2 && exit 2; }
done
cargo metadata --locked --format-version 1 --manifest-path fuzz/Cargo.toml >/dev/null ||
    { echo "fuzz: fuzz/Cargo.lock is behind; cargo metadata --manifest-path fuzz/Cargo.toml brings it up" >&2 && exit 2; }
build "${chosen[@]}"
[[ $mode != build ]] || exit 0
if [[ $mode == merge ]]; then
    for target in "${chosen[@]}"; do merge "$target"; done
    exit
fi
[[ -z ${hours:-} ]] || seconds=$(awk "BEGIN { print int($hours * 3600 / ${#chosen[@]}) }")
found=0
for target in "${chosen[@]}"; do
    run "$target" "$seconds" || found=1
done
exit "$found"

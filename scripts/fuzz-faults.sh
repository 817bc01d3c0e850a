#!/usr/bin/env bash
# Proves that the fuzz targets can fail: makes one mistake after the other in a copy of the tree, and measures how long
# the fuzzer takes to find it. Ends with 1 if one is not found in time. See docs/fuzzing.md.
#
#   scripts/fuzz-faults.sh [--seconds N] [TARGET…]     at most N seconds for each (default 60), after as many from nothing
#
# A mistake is hunted from nothing first, with the committed inputs left aside; what that does not find, from them.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=60
chosen=()
while (($#)); do
    case $1 in
        --seconds) seconds=$2 && shift ;;
        -*) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" >&2 && exit 2 ;;
        *) chosen+=("$1") ;;
    esac
    shift
done
((${#chosen[@]})) || chosen=(config decode encode topic shard websocket)
root=${CARGO_TARGET_DIR:-$PWD/target}/fuzz-faults
triple=$(rustc -vV | sed -n 's/^host: //p')
tree=$root/tree
missed=0

rm -rf "$tree"
mkdir -p "$tree"
git ls-files -z | tar -c --null -T - | tar -x -C "$tree"

# hunt TARGET WHAT: says after which time, after how many runs, and from where the mistake was found.
hunt() {
    local target=$1 what=$2 found begun from length=1024 value_profile=1
    local log=$root/$target.log
    [[ $target != shard ]] || length=2048 value_profile=0
    for from in nothing "the corpus"; do
        found=$(mktemp -d)
        begun=$(date +%s%N)
        # The seed is fixed, but how fast inputs run is not, and libFuzzer looks at that: the figures vary a little.
        if ! "$root/fuzz/$triple/release/$target" -seed=1 -use_value_profile=$value_profile -max_len=$length -timeout=10 \
            -max_total_time="$seconds" -artifact_prefix="$found/" -print_final_stats=1 "$found" \
            $([[ $from == nothing ]] || echo "fuzz/corpus/$target") >"$log" 2>&1; then
            printf '| `%s` | %s | %s.%s s, %s runs from %s |\n' "$target" "$what" $((($(date +%s%N) - begun) / 1000000000)) \
                $((($(date +%s%N) - begun) / 100000000 % 10)) \
                "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")" "$from"
            rm -r "$found"
            return
        fi
        rm -r "$found"
    done
    echo "| \`$target\` | $what | NOT FOUND in $seconds s |"
    missed=1
}

is_chosen() { [[ " ${chosen[*]} " == *" $1 "* ]]; }

build() {
    CARGO_TARGET_DIR=$root "$tree/scripts/fuzz.sh" --build "$1" >"$root/build.log" 2>&1 || { tail -n 20 "$root/build.log" >&2 && exit 2; }
}

# mistake TARGET WHAT FILE RIGHT WRONG: the text must stand in the file exactly once.
mistake() {
    local target=$1 what=$2 file=$tree/$3
    is_chosen "$target" || return 0
    RIGHT=$4 WRONG=$5 perl -0pi -e 'my $n = s/\Q$ENV{RIGHT}\E/$ENV{WRONG}/g; die "not once, but ".($n || 0)."\n" if $n != 1' "$file" ||
        { echo "fuzz-faults: $3 has changed; write this mistake anew: $what" >&2 && exit 2; }
    build "$target"
    cp "$3" "$file" && touch "$file"
    hunt "$target" "$what"
}

# planted TARGET NAME…: those of shard/src/fault.rs.
planted() {
    local target=$1 name
    is_chosen "$target" || return 0
    FUZZ_FEATURES=planted-faults build "$target"
    for name in "${@:2}"; do
        export RINGMQ_FAULT=$name
        hunt "$target" "$(sed -n "s/^ *$name: \"\(.*\)\",\$/\1/p" shard/src/fault.rs)"
    done
}

echo "| target | mistake | found after |"
echo "|---|---|---|"
mistake decode "U+0000 in the last bytes of a string is let through" shard/src/codec/decoder/fields.rs \
    'fold(nul_bits(*last),' 'fold(0 & nul_bits(*last),'
mistake encode "a Remaining Length of exactly 128 takes one byte" shard/src/codec/encoder.rs \
    'while left >= 0x80 {' 'while left > 0x80 {'
mistake config "an open listener is refused on 0.0.0.0 and [::] only, not on other addresses that hosts reach" src/config/mod.rs \
    '&& !address.ip().to_canonical().is_loopback()' '&& address.ip().is_unspecified()'
mistake config "control characters of the file stand in refusals as they are" src/config/file.rs \
    'if letter.is_control() {' 'if letter.is_control() && letter.is_ascii_punctuation() {'
mistake shard "what an ended session held is still counted against the budget of memory" shard/src/shard/depart.rs \
    'self.clients.memory.recharge(&mut session.charged, 0);' ''
mistake shard "messages held behind a SUBSCRIBE are still counted as waiting when their session ends" shard/src/shard/depart.rs \
    'session.outbound.queued() + session.held.len(),' 'session.outbound.queued(),'
mistake websocket "the mask begins anew where a read ends" src/transport/websocket/frames.rs \
    'self.mask.rotate_left(rest.len() % 4);' ''
mistake websocket "the end of a request is looked for in what came last only" src/transport/websocket/upgrade.rs \
    'received.len().saturating_sub(fresh + END.len());' 'received.len().saturating_sub(fresh);'
mistake websocket "a continuation may begin a message" src/transport/websocket/frames.rs \
    'if self.in_message != (kind == Data::Continue) {' 'if self.in_message && kind != Data::Continue {'
planted topic WildcardSeesDollar
planted shard LeaveRoute LeaveFilter KeepSubscriber LeakPending
exit "$missed"

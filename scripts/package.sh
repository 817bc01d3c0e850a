#!/usr/bin/env bash
# Makes the Debian package and a tar archive of the same files: scripts/package.sh
# They are left in target/package, with their checksums. Needs cargo-deb (cargo install cargo-deb --locked).
set -euo pipefail
cd "$(dirname "$0")/.."
command -v cargo-deb >/dev/null || { echo "cargo-deb is not installed: cargo install cargo-deb --locked" >&2 && exit 1; }
# The package lists its files under target/, whatever CARGO_TARGET_DIR says.
unset CARGO_TARGET_DIR
out=target/package
rm -rf "$out"
mkdir -p "$out/completions"
cargo build --release --locked --workspace --bins
target/release/ringmq man "$out/man"
for shell in bash zsh fish; do
    target/release/ringmq completions $shell >"$out/completions/ringmq.$shell"
done
cargo deb --locked --no-build --output "$out/"

version=$(target/release/ringmq --version | cut -d' ' -f2)
name=ringmq-$version-$(uname -m)-linux
files=$out/$name
mkdir -p "$files"
cp -r target/release/ringmq target/release/ringmq-bench README.md CHANGELOG.md LICENSE-* docs packaging "$out/man" "$out/completions" "$files"
tar -C "$out" --owner=0 --group=0 --sort=name -czf "$out/$name.tar.gz" "$name"
rm -rf "$files" "$out/man" "$out/completions"
(cd "$out" && sha256sum -- *.deb *.tar.gz >SHA256SUMS && cat SHA256SUMS)

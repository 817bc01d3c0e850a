#!/usr/bin/env bash
# Makes a release of the commit that is checked out: scripts/release.sh VERSION
# All checks must pass first. The version goes into Cargo.toml, the lock files and the change log, in a commit of its own with a tag;
# the packages are in target/package. Nothing leaves this machine: what is to be published is printed.
set -euo pipefail
cd "$(dirname "$0")/.."
version=${1:?"which version? such as 1.2.0"}
[[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]] || { echo "$version is no version such as 1.2.0" >&2 && exit 2; }
[[ -z $(git status --porcelain) ]] || { echo "there are changes that are not committed" >&2 && exit 1; }
! git rev-parse -q --verify "refs/tags/v$version" >/dev/null || { echo "there is a v$version already" >&2 && exit 1; }
grep -q '^## Unreleased$' CHANGELOG.md || { echo "the change log has nothing to release" >&2 && exit 1; }
.ci/run
sed -i "/^\[workspace.package\]/,/^version/s/^version = .*/version = \"$version\"/" Cargo.toml
sed -i "s/^## Unreleased$/## Unreleased\n\n## $version, $(date -u +%Y-%m-%d)/" CHANGELOG.md
for manifest in Cargo.toml fuzz/Cargo.toml tests/models/Cargo.toml; do cargo update --quiet --manifest-path $manifest --workspace; done
git commit --quiet --all --message "release: $version"
git tag --annotate "v$version" --message "RingMQ $version"
scripts/package.sh
echo "to publish: git push origin HEAD v$version, and the files in target/package"

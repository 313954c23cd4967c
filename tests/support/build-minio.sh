#!/usr/bin/env bash
# Builds MinIO from its Go module and prints the path of the binary.
#
#   tests/support/build-minio.sh [DIR]      DIR defaults to .cache/minio in the clone
#
# MinIO publishes no binaries any more, so the tests build it from source: about 150 MB, three minutes on two cores.
# A binary that is already there is kept; one in ~/.cache/shoal/minio is copied, and a fresh build is left there too, so
# that the next clone on the same machine is ready at once. Needs Go 1.21 or newer; an older one cannot fetch the
# toolchain that MinIO's go.mod asks for.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
dir=${1:-$root/.cache/minio}
shared=${XDG_CACHE_HOME:-$HOME/.cache}/shoal/minio
# The last commit of the public repository as the module proxy knows it (12 February 2026). MinIO names its releases by
# date, which is no version to the module system, so it is pinned by commit.
version=${MINIO_VERSION:-v0.0.0-20260212201848-7aac2a2c5b7c}

say() { printf '%s\n' "$*" >&2; }

works() { [ -x "$1" ] && "$1" --version >/dev/null 2>&1; }

if works "$dir/minio"; then
  echo "$dir/minio"
  exit 0
fi
mkdir -p "$dir"
if [ "$dir" != "$shared" ] && works "$shared/minio"; then
  cp "$shared/minio" "$dir/minio"
  echo "$dir/minio"
  exit 0
fi

PATH=$PATH:/usr/local/go/bin:$HOME/go/bin
if ! command -v go >/dev/null; then
  say "no Go toolchain found: install Go 1.21 or newer, or put a minio binary at $dir/minio"
  exit 1
fi

export GOTOOLCHAIN=${GOTOOLCHAIN:-auto} GOFLAGS="-buildvcs=false ${GOFLAGS:-}" CGO_ENABLED=0
say "building MinIO $version with $(go version)"
if ! GOBIN=$dir go install "github.com/minio/minio@$version"; then
  # 'go install' refuses a module whose go.mod has replace directives; a throw-away module that requires it does not mind.
  say "go install was refused; building through a module that requires it"
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  cd "$work"
  go mod init shoal.invalid/minio-build
  printf 'package main\n\nimport _ "github.com/minio/minio/cmd"\n\nfunc main() {}\n' >main.go
  go get "github.com/minio/minio@$version"
  go build -o "$dir/minio" github.com/minio/minio
fi
works "$dir/minio" || { say "the build made no working $dir/minio"; exit 1; }
if [ "$dir" != "$shared" ] && mkdir -p "$shared" 2>/dev/null; then
  # Copied under another name first: another clone may look at the same moment.
  cp "$dir/minio" "$shared/.minio.$$" && mv "$shared/.minio.$$" "$shared/minio"
fi
echo "$dir/minio"

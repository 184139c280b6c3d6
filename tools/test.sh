#!/usr/bin/env bash
# Runs the tests, each part in a process of its own: no program of ours loads all the libraries that they load together.
# Two parts at a time, the longest first; the nodes and the system alone, because their messages have time limits.
set -euo pipefail
cd "$(dirname "$0")/.."
logs=$(mktemp -d)
export logs
trap 'rm -rf "$logs"' EXIT

# part NAME: its tests, whose output comes in one piece
part() {
  .venv/bin/python -m pytest "test/$1" >"$logs/$1" 2>&1 || touch "$logs/$1.failed"
  echo "test/$1" && cat "$logs/$1"
}
export -f part

alone="nodes system"
together=$(printf '%s\n' engine train $(ls -d test/*/ | xargs -n 1 basename) | awk '!seen[$0]++' | grep -vxE "${alone/ /|}")
xargs -P 2 -I{} env OMP_NUM_THREADS=1 bash -c 'part {}' <<<"$together"
for name in $alone; do
  echo "test/$name"
  .venv/bin/python -m pytest "test/$name" || touch "$logs/$name.failed"
done

failed=$(find "$logs" -name '*.failed' -printf '%f ' | sed 's/\.failed//g')
[ -z "$failed" ] || { echo "failed: $failed" >&2; exit 1; }

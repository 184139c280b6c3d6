#!/usr/bin/env bash
# Runs the tests, each part in a process of its own: no program of ours loads all the libraries that they load together.
# Two parts at a time, the longest first, one thread each: more would wait for one another. Then the nodes and the system,
# whose messages have time limits, in two processes. There a test that hangs, or waits at a process's end for what the
# middleware never says, ends that process alone: it is reported, and tried once more.
#
# PYTHON=FILE tools/test.sh PART...   those parts alone, in the way of the nodes
set -euo pipefail
cd "$(dirname "$0")/.."
logs=$(mktemp -d)
export logs OMP_NUM_THREADS=1 python=${PYTHON:-.venv/bin/python}
trap 'rm -rf "$logs"' EXIT

# part NAME: its tests, whose output comes in one piece
part() {
  "$python" -m pytest "test/$1" >"$logs/$1" 2>&1 || touch "$logs/$1.failed"
  echo "test/$1" && cat "$logs/$1"
}
export -f part

if [ $# = 0 ]; then
  set -- nodes system
  printf '%s\n' engine train $(ls -d test/*/ | xargs -n 1 basename) | awk '!seen[$0]++' | grep -vxE 'nodes|system' |
    xargs -P 2 -I{} bash -c 'part {}'
fi
for name in "$@"; do
  echo "test/$name"
  "$python" -m pytest "test/$name" -n 2 --dist loadfile --reruns 1 || touch "$logs/${name//\//-}.failed"
done

failed=$(find "$logs" -name '*.failed' -printf '%f ' | sed 's/\.failed//g')
[ -z "$failed" ] || { echo "failed: $failed" >&2; exit 1; }

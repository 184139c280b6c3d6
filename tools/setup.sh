#!/usr/bin/env bash
# Makes .venv with everything that the demo and the tests need: ROS 2 as wheels, torch for the CPU, this package.
# Idempotent: each step leaves a stamp of what it was made from in .venv/.setup and is skipped while that is unchanged.
#
# ROS=jazzy|kilted   the distribution, if not that of the environment (a new one has Jazzy), which is then made afresh
# THFM_VENV=FOLDER   a second, small environment: what does not know ROS comes from .venv, which has to be there
# PYTHON=PYTHON3     the interpreter
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
venv=${THFM_VENV:-.venv}
stamps=$venv/.setup
has_ros=$(for name in jazzy kilted; do compgen -G "$venv/lib/python*/site-packages/ros_${name}_rclpy-*" >/dev/null && echo "$name"; done || true)
ros=${ROS:-${has_ros%%$'\n'*}}
ros=${ros:-jazzy}
extras=model,prompts,cpu,export,synth,train,scale,bags,rerun,ros-$ros,dev build=build
if [ "$venv" != .venv ]; then extras=ros-$ros build=build-$ros; fi

say() { printf '\033[1m[setup]\033[0m %s\n' "$*"; }
fail() { printf '[setup] %s\n' "$*" >&2; exit 2; }

# watched TITLE COMMAND...: runs it with its output in a log, shows the seconds and the environment's size meanwhile
watched() {
  local title="$1" log=$venv/setup.log start=$SECONDS pid
  shift
  say "$title"
  "$@" >>"$log" 2>&1 &
  pid=$!
  trap 'kill "$pid" 2>/dev/null' EXIT
  while kill -0 "$pid" 2>/dev/null; do
    if [ -t 1 ]; then printf '\r[setup]   %d s, %s installed ' $((SECONDS - start)) "$(du -sh $venv | cut -f1)"; fi
    sleep 1
  done
  trap - EXIT
  if [ -t 1 ]; then printf '\r\033[K'; fi
  wait "$pid" || { tail -n 30 "$log" >&2; fail "failed: $title (the whole output is in $log)"; }
  say "  done in $((SECONDS - start)) s"
}

# step NAME FINGERPRINT COMMAND...: run once for each fingerprint
step() {
  local stamp="$stamps/$1" fingerprint="$2"
  shift 2
  if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$fingerprint" ]; then return; fi
  "$@"
  mkdir -p "$stamps"
  printf '%s' "$fingerprint" >"$stamp.tmp" && mv "$stamp.tmp" "$stamp"
}

make_environment() {
  # --clear: one that was interrupted while it was made has a Python without pip, whose stamps lie.
  say "virtual environment in $venv"
  "$python" -m venv --clear "$venv"
}

# False for an environment that is missing, half made, or of a Python that is gone. Killed while asking (137): no result,
# and no reason to throw 4 GB away.
environment_works() {
  "$venv/bin/python" -m pip --version >/dev/null 2>&1 || [ $? -gt 128 ]
}

# True where the environment's programs name the Python of another folder: it was moved or copied, with its checkout.
# pip's first line does, or with a long path or one with spaces the second. -ef: .venv may be a link.
environment_moved() {
  local first='' second=''
  { read -r first && read -r second; } 2>/dev/null <"$venv/bin/pip" || true
  [[ "$first $second" =~ (/[^\"]*/bin)/python ]] && ! [ "${BASH_REMATCH[1]}" -ef "$venv/bin" ]
}

install_packages() {
  local pip=("$venv/bin/python" -m pip install --disable-pip-version-check --progress-bar off)
  rm -f "$stamps/build" # pip replaces the package's folder, messages included
  if [ "$venv" != .venv ]; then
    local packages='import sysconfig; print(sysconfig.get_path("purelib"))'
    watched "ROS 2 ($ros)" "${pip[@]}" --editable ".[$extras]" --config-settings editable_mode=compat
    .venv/bin/python -c "$packages" >"$("$venv/bin/python" -c "$packages")/zz_first_environment.pth"
    return
  fi
  # torch first: a plain requirement would take the CUDA build, several GB that a machine without a GPU cannot use.
  watched "PyTorch for the CPU" "${pip[@]}" "torch==2.13.0" "setuptools<80"
  # editable_mode=compat: a plain path entry, over which the package's __init__ extends itself.
  watched "Python packages (3.8 GB on disk; some 4 minutes)" \
    "${pip[@]}" --editable ".[$extras]" --config-settings editable_mode=compat
  if [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ]; then
    # Builds engines without a GPU. Its dependencies are the CUDA runtime, which building does not need.
    watched "TensorRT for RTX" "${pip[@]}" --no-deps \
      "tensorrt-rtx-cu13-bindings>=1.7,<1.8" "tensorrt-rtx-cu13-libs>=1.7,<1.8" "tensorrt-rtx-cu13>=1.7,<1.8"
  fi
}

fix_exported_paths() {
  # The wheels' CMake files name the include folders of the machine that built them.
  say "CMake paths of the ROS wheels"
  local include numpy_include
  include=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
  numpy_include=$("$venv/bin/python" -c 'import numpy; print(numpy.get_include())')
  [ -f "$include/Python.h" ] || fail "the C headers of $("$venv/bin/python" -V) are missing ($include/Python.h): install them (Debian: apt install python3-dev)"
  find "$venv/share" -type f -path '*/cmake/*' -name '*xport*.cmake' -exec sed -i -E \
    -e "s#/opt/python/cp[0-9]+-cp[0-9]+/lib/python3\.[0-9]+/site-packages/numpy/_core/include#$numpy_include#g" \
    -e "s#/opt/python/cp[0-9]+-cp[0-9]+/include/python3\.[0-9]+#$include#g" {} +
}

build_package() {
  say "colcon build"
  local prefix
  prefix=$(cd "$venv" && pwd)
  # Into the environment itself: its Python finds the messages without any setup file being sourced.
  # MAKEFLAGS: colcon's own have a limit on the machine's load, with which other work stops all but one compiler.
  if ! env PATH="$prefix/bin:$PATH" AMENT_PREFIX_PATH="$prefix" CMAKE_PREFIX_PATH="$prefix" MAKEFLAGS="-j$(nproc)" \
    COLCON_LOG_LEVEL=error LD_LIBRARY_PATH="$("$venv/bin/python" -c 'import os; print(os.environ["LD_LIBRARY_PATH"])')" \
    "$prefix/bin/colcon" --log-base "$build/log" build --merge-install --symlink-install --install-base "$prefix" \
    --build-base "$build" --event-handlers console_stderr- --paths . --cmake-args -DBUILD_TESTING=OFF -DTHFM_INSTALL_MODULES=OFF \
    "-DPython3_EXECUTABLE=$prefix/bin/python" >"$build.log" 2>&1; then
    cat "$build.log" "$build/log/latest_build/thfm_ros/stderr.log" >&2
    fail "colcon build failed (above)"
  fi
  mkdir -p "$build" && mv "$build.log" "$build/colcon.log"
}

for tool in cc c++ make; do # the messages are C and C++
  command -v "$tool" >/dev/null || fail "$tool not found: install a C++ compiler and make (Debian: apt install build-essential)"
done
"$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' ||
  fail "Python 3.10-3.13 is needed, found $("$python" -V): set PYTHON=/path/to/python3"

case $ros in jazzy | kilted) ;; *) fail "ROS=$ros: expected jazzy or kilted, which exist as wheels" ;; esac
if [ "$venv" != .venv ] && [ ! -f .venv/.setup/build ]; then fail "THFM_VENV=$venv goes beside .venv: run make setup first"; fi
if [ "$venv" != .venv ]; then python=.venv/bin/python; fi # their libraries are shared

# The wheels of two distributions in one environment would be neither.
if ! environment_works || environment_moved || [ "${has_ros:-$ros}" != "$ros" ]; then make_environment; fi
step packages "$(sha256sum pyproject.toml | cut -c1-16) $extras" install_packages
step cmake-paths "$(cat "$stamps/packages")" fix_exported_paths
# What colcon reads, and the names of the shared files, which it links one by one.
inputs=$(cat CMakeLists.txt package.xml msg/*.msg srv/*.srv tools/node_executable.py.in "$stamps/packages" &&
  { find launch config rviz engines samples examples weights -type f 2>/dev/null || true; } | sort) # weights/ may be missing
[ -d "$build/thfm_ros" ] || rm -f "$stamps/build" # the environment has links into that folder
step build "$PWD $(printf '%s' "$inputs" | sha256sum | cut -c1-16)" build_package
say "ready"

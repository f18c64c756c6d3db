#!/usr/bin/env bash
# need.sh COMMAND=PACKAGE...: installs the Debian packages whose command is missing,
# and nothing if all are there. A command may be a glob of absolute paths
# (/usr/lib/postgresql/*/bin/initdb=postgresql). Needs root only when something is missing.
set -euo pipefail

missing() {
  local command=$1
  case $command in
  /*) ! compgen -G "$command" >/dev/null ;;
  *) ! command -v "$command" >/dev/null ;;
  esac
}

packages=()
for need in "$@"; do
  if missing "${need%%=*}"; then packages+=("${need#*=}"); fi
done
[ ${#packages[@]} -gt 0 ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "the tests need programs that are not installed; run, as root on Debian:" >&2
  echo "  apt-get update && apt-get install --no-install-recommends ${packages[*]}" >&2
  exit 1
fi
echo "installing ${packages[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq --no-install-recommends "${packages[@]}" >/dev/null

for need in "$@"; do
  if missing "${need%%=*}"; then
    echo "apt-get installed ${need#*=}, yet ${need%%=*} is still missing" >&2
    exit 1
  fi
done

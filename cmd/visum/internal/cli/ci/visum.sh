#!/bin/sh
# ci/visum.sh, written by: visum ci init shell
#
#   ci/visum.sh release DIST [CHANNEL]   add the output folder of goreleaser, and publish;
#                                        VISUM_SOURCE is the URI of the source code
#   ci/visum.sh renew                    one round of visum run
#   ci/visum.sh status|fsck              look; exit status 3 if something is found
#   ci/visum.sh prune                    remove what no client requests any more
#   ci/visum.sh clone URL DIR            update a mirror
#   ci/visum.sh check COMMAND...         one of them as a monitoring plugin:
#                                        0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN
set -u
cd "$(dirname "$0")/.." || exit 1
VISUM_IDENTITY="${VISUM_IDENTITY:-.visum/ci.toml}"
export VISUM_IDENTITY

# again runs a command again while the repository changes concurrently (exit status 4).
again() {
  for try in 1 2 3 4 5; do
    status=0
    "$@" </dev/null || status=$?
    test "$status" -eq 4 || break
  done
  return "$status"
}

command="${1:-}"
test $# -gt 0 && shift
case "$command" in
release) again visum add "${1:?DIST}" --channel "${2:-[[.Channel]]}" ${VISUM_SOURCE:+--source "$VISUM_SOURCE"} --publish ;;
renew) again visum run --once ;;
status) visum status ;;
fsck) visum fsck ;;
prune) again visum prune ;;
clone) again visum clone "${1:?URL}" "${2:?DIR}" --pin .visum/pin.json ;;
check)
  "$0" "$@"
  case $? in
  0) echo "OK: $*" ;;
  3)
    test "${1:-}" != fsck || { echo "CRITICAL: $*"; exit 2; }
    echo "WARNING: $*"
    exit 1
    ;;
  6)
    echo "CRITICAL: $* refused something as untrusted"
    exit 2
    ;;
  *)
    echo "UNKNOWN: $* failed"
    exit 3
    ;;
  esac
  ;;
*)
  sed -n 's/^#   //p' "ci/$(basename "$0")" >&2
  exit 2
  ;;
esac

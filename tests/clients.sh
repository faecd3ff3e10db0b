#!/usr/bin/env bash
# The stand-ins and the webhooks, judged by clients that nobody here wrote (installed by ./test).
set -euo pipefail
cd "$(dirname "$0")/.."
uzel=$(realpath "${UZEL:-target/debug/uzel}")
tools=$(realpath "${TOOLS:-target/clients/bin}")
log=$(mktemp)
"$uzel" sandbox --listen 127.0.0.1:0 >"$log" &
sandbox=$!
trap 'kill $sandbox; rm -f "$log"' EXIT
for _ in $(seq 100); do
  url=$(grep -o 'http://[0-9.:]*' "$log" || true)
  [ -n "$url" ] && break
  sleep 0.1
done
[ -n "$url" ] || { echo "the stand-ins did not start"; exit 1; }
for client in crates/sandbox/tests/clients/*_client.py; do
  echo "-- $(basename "$client")"
  "$tools/python" "$client" "$url"
done
for client in crates/sandbox/tests/clients/*_client.cjs; do
  echo "-- $(basename "$client")"
  NODE_PATH=$tools/../npm/node_modules node "$client" "$url"
done
echo "-- webhooks.py"
"$tools/python" tests/webhooks.py "$uzel"

#!/usr/bin/env bash
# The API of a running hub, judged by tools that nobody here wrote (installed by ./test): the tour of docs/api.md by curl, a linter of
# OpenAPI documents, a client generated from the document, schemathesis, and a browser on /docs.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
uzel=$(realpath "${UZEL:-target/debug/uzel}")
tools=$(realpath "${TOOLS:-target/clients/bin}")
folder=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; wait; rm -rf "$folder"' EXIT
cd "$folder"

# Starts a program and gives the address that it prints.
start() {
  local log=$1 url=
  shift
  "$@" >"$log" 2>&1 &
  pids+=($!)
  for _ in $(seq 300); do
    url=$(grep -om1 '127\.0\.0\.1:[1-9][0-9]*' "$log" || true)
    [ -n "$url" ] && break
    sleep 0.1
  done
  [ -n "$url" ] || { cat "$log"; exit 1; }
  address=http://$url
}

none() {
  if grep -nE "$@"; then
    echo "$2 must not have that"
    exit 1
  fi
}

start sandbox.log "$uzel" sandbox --listen 127.0.0.1:0
sandbox=$address
# Tools ask faster than people, with wrong keys as well.
cat >uzel.toml <<'TOML'
listen = "127.0.0.1:0"
allow_networks = ["127.0.0.0/8"]
failed_auth_per_minute = 1000000
call_timeout_ms = 2000
TOML
start hub.log "$uzel" serve
export HUB=$address
echo "-- the tour of docs/api.md"
# Its blocks are one script: what curl answers to a fault on purpose does not end it.
sed -n '/^```sh$/,/^```$/{/^```/!p}' "$root/docs/api.md" >tour.sh
bash -euo pipefail tour.sh >tour.log 2>&1 || { cat tour.log; exit 1; }

echo "-- the linter"
curl -sSf "$HUB/openapi.json" -o openapi.json
"$tools/openapi-spec-validator" openapi.json

echo "-- a generated client"
printf 'post_hooks: []\n# It knows no CSV: any bytes are as good.\ncontent_type_overrides:\n  text/csv: application/octet-stream\n' >generator.yaml
"$tools/openapi-python-client" generate --path openapi.json --output-path client --meta none --config generator.yaml --fail-on-warning >client.log 2>&1 ||
  { cat client.log; exit 1; }
owner=$(cat uzel-data/owner.key)
PYTHONPATH=$folder "$tools/python" "$root/tests/clients/tour.py" "$HUB" "$sandbox" "$owner"

reader=$(curl -sSf -H "Authorization: Bearer $owner" "$HUB/api/v1/keys" --json '{"merchant":"cafe","role":"reader"}' | jq -r .key)
fuzz() {
  echo "-- schemathesis as $1"
  "$tools/schemathesis" --config-file "$root/tests/schemathesis.toml" run "$HUB/openapi.json" --no-color \
    -H "Authorization: Bearer $2" --seed 20 "${@:3}" >"$1.log" 2>&1 || { cut -c1-500 "$1.log" | tail -300; exit 1; }
  grep 'generated,' "$1.log"
}
fuzz reader "$reader" --max-time 25
# Keys that are taken away are in the tour: here it would take away its own.
fuzz admin "$owner" --max-time 75 --exclude-operation-id keys_remove
curl -sSf "$HUB/healthz" >/dev/null
none 'panicked|ERROR' hub.log

echo "-- /docs in a browser"
for page in docs problems; do
  chromium --headless --no-sandbox --disable-gpu --user-data-dir="$folder/browser" --enable-logging=stderr --v=0 \
    --virtual-time-budget=2000 --dump-dom "$HUB/$page" >"$page.html" 2>"$page.log"
  grep -q '</main>' "$page.html"
  none 'CONSOLE' "$page.log"
  none '<(script|link|img|iframe)|src=|@import|url\(' "$page.html"
done

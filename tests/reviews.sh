#!/usr/bin/env bash
# The pages behind short links in a browser (installed by ./test): each state in each language, and guests who click through them. No
# script runs and nothing is loaded, and the page's own policy has nothing to refuse. PICTURES=folder keeps a picture of each, at the size of a phone and of a desk.
set -euo pipefail
cd "$(dirname "$0")/.."
guest=$PWD/tests/guest.py
uzel=$(realpath "${UZEL:-target/debug/uzel}")
pictures=${PICTURES:-}
[ -z "$pictures" ] || { mkdir -p "$pictures"; pictures=$(realpath "$pictures"); }
folder=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; wait; rm -rf "$folder"' EXIT
cd "$folder"

"$uzel" sandbox --listen 127.0.0.1:0 >sandbox.log 2>&1 &
pids+=($!)
for _ in $(seq 300); do
  sandbox=$(grep -om1 '127\.0\.0\.1:[1-9][0-9]*' sandbox.log || true)
  [ -n "$sandbox" ] && break
  sleep 0.1
done
port=$((10000 + RANDOM % 20000))
hub=http://127.0.0.1:$port
cat >uzel.toml <<TOML
listen = "127.0.0.1:$port"
public_url = "$hub"
allow_networks = ["127.0.0.0/8"]
TOML
cat >setup.toml <<TOML
[[merchant]]
slug = "cafe"
name = "Кофейня на Арбате"

[[outlet]]
merchant = "cafe"
slug = "arbat"
name = "Кофейня на Арбате, 12"
zone = "Europe/Moscow"
maps = { dgis = "https://2gis.ru/moscow/firm/4504127908472131", yandex = "https://yandex.ru/maps/org/1124715036/reviews/", google = "https://g.page/r/CabcEBM/review" }

[[connection]]
merchant = "cafe"
outlet = "arbat"
slug = "till"
provider = "rkeeper"
webhook_keys = ["a-key-of-more-than-twenty-four-characters"]

[[connection]]
merchant = "cafe"
slug = "sms"
provider = "smsru"
settings = { base_url = "http://$sandbox/smsru", api_id = "A1B2C3D4-1111-2222-3333-444455556666" }

[[flow]]
merchant = "cafe"
slug = "review"
on = ["order.completed"]
ground = "service"
ground_by = "the test"
via = "sms"
latest = "3650d"
text = "{{ link }} {{ unsubscribe }}"
TOML
"$uzel" apply setup.toml >apply.log || { cat apply.log; exit 1; }
"$uzel" serve >hub.log 2>&1 &
pids+=($!)
for _ in $(seq 300); do
  curl -sf "$hub/healthz" >/dev/null && break
  sleep 0.1
done

# Has a guest with this number be served, and gives the text that they get.
asked() {
  curl -sSf "$hub/api/webhook/rkeeper?key=a-key-of-more-than-twenty-four-characters" -H 'Content-Type: application/json' -o /dev/null \
    -d '{"order":{"id":'"$1"',"status":"Выполнен","customer":{"phone":"+7999000000'"$1"'","name":"Анна"}}}'
  for _ in $(seq 300); do
    text=$(curl -sSf "http://$sandbox/_sandbox/smsru/accepted" | jq -r '.[] | select(.to | endswith("'"$1"'")) | .text')
    [ -n "$text" ] && { echo "$text"; return; }
    sleep 0.1
  done
  cat hub.log
  exit 1
}

browse() {
  chromium --headless --no-sandbox --disable-gpu --user-data-dir="$folder/browser" --enable-logging=stderr --v=0 --hide-scrollbars "$@"
}

# Opens a page in each language and looks at what the browser says of it.
look() {
  local state=$1 url=$2 language size page
  for language in ru uz en; do
    page="$url$3lang=$language"
    browse --virtual-time-budget=1000 --dump-dom "$page" >page.html 2>page.log
    grep -q "<html lang=\"$language\">" page.html || { echo "$state is no page"; cat page.html page.log; exit 1; }
    if grep -E 'CONSOLE' page.log || grep -E '<(script|link|img|iframe)|src=|@import|url\(' page.html; then
      echo "$state must not have that"
      exit 1
    fi
    # No script could run, whoever brought it: what is seen is seen without any.
    curl -sS -D head.txt -o body.html "$page"
    grep -qi "^content-security-policy: default-src 'none'; style-src 'sha256-" head.txt || { cat head.txt; exit 1; }
    [ "$(wc -c <body.html)" -lt 30000 ] || { echo "$state is heavy"; exit 1; }
    [ -n "$pictures" ] || continue
    for size in 390,844 1280,800; do
      browse --window-size=$size --screenshot="$pictures/$state-$language-${size/,/x}.png" "$page" 2>/dev/null
    done
  done
  echo "$state"
}

give() {
  [ "$(curl -sS -o /dev/null -w '%{http_code}' "$1" --data-urlencode "$2")" = 303 ] || { echo "$1 does not take $2"; exit 1; }
}

read -r link out <<<"$(asked 1)"
read -r happy _ <<<"$(asked 2)"
look question "$link" '?'
give "$link" stars=2
look few_stars "$link" '?'
look question_again "$link" '?again=1&'
give "$link" 'comment=Ждали кофе сорок минут, и он был холодный.'
look commented "$link" '?'
give "$happy" stars=5
look many_stars "$happy" '?'
look unsubscribe "$out" '?'
curl -sSf "$out" -d List-Unsubscribe=One-Click -o /dev/null
look unsubscribed "$out" '?'
look gone "$hub/r/aaaaaaaaaa" '?'

# Two guests with a mouse: one is not content, writes to the owner and goes to a map; one is, and goes to another.
read -r sad _ <<<"$(asked 3)"
read -r glad _ <<<"$(asked 4)"
python3 "$guest" "$sad?lang=uz" 2 'Ждали кофе сорок минут' dgis https://2gis.ru/moscow/firm/4504127908472131
python3 "$guest" "$glad?lang=en" 5 '' yandex https://yandex.ru/maps/org/1124715036/reviews/
"$uzel" reviews list --merchant cafe --unmasked --json >reviews.json
[ "$(jq -c '[.[] | select(.comment == "Ждали кофе сорок минут") | .stars]' reviews.json)" = '[2]' ] || { cat reviews.json; exit 1; }
"$uzel" reviews stats cafe --json >stats.json
[ "$(jq -c '.total | [.stars, .comments, .clicks.dgis, .clicks.yandex]' stats.json)" = '[[0,2,0,0,2],2,1,1]' ] || { cat stats.json; exit 1; }
echo "two guests clicked"
if grep -E 'panicked|ERROR' hub.log; then exit 1; fi

#!/usr/bin/env bash
# The image's steps without Docker: the program and what it links to in a bare folder, run there by a user without rights
# and with no environment but the image's. Needs root, for chroot. Usage: deploy/image-steps.sh target/release/uzel
set -euo pipefail
program=$(realpath "$1")
root=$(mktemp -d)
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
hub=
end() {
  if [ -n "$hub" ]; then kill "$hub" 2>/dev/null || true; wait "$hub" 2>/dev/null || true; fi
  rm -rf "$root"
}
trap end EXIT
chmod 0755 "$root"
install -D -m 0755 "$program" "$root/usr/local/bin/uzel"
install -D -m 0644 /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
# What the base image brings: the C library alone, or the program would need more than the Dockerfile gives it.
ldd "$program" | grep -o '/[^ ]*' | while read -r library; do install -D "$library" "$root$library"; done
ldd "$program" | grep -Evq 'linux-vdso|libc\.so|libm\.so|libgcc_s|ld-linux' && { echo "the program links to more than the C library"; exit 1; }
install -d -o 10001 -g 10001 -m 0700 "$root/var/lib/uzel"
setpriv --reuid 10001 --regid 10001 --clear-groups true 2>/dev/null || { echo "setpriv is needed"; exit 1; }
env -i UZEL_DATA=/var/lib/uzel UZEL_LISTEN="127.0.0.1:$port" UZEL_LOG_JSON=true \
  "$(command -v chroot)" --userspec=10001:10001 "$root" /usr/local/bin/uzel serve 2>"$root/log" &
hub=$!
for _ in $(seq 100); do
  [ "$(curl -sf "http://127.0.0.1:$port/healthz" || true)" = ok ] && break
  kill -0 "$hub" || { cat "$root/log"; exit 1; }
  sleep 0.1
done
[ "$(curl -sf "http://127.0.0.1:$port/healthz")" = ok ] || { cat "$root/log"; exit 1; }
[ "$(stat -c %a:%u "$root/var/lib/uzel/master.key")" = 600:10001 ] || { echo "the master key is not the user's own"; exit 1; }
kill "$hub"
wait "$hub" || { echo "the hub did not stop in peace"; exit 1; }
hub=
echo "the program of $(stat -c %s "$program") bytes runs in a bare folder of $(du -sk "$root" | cut -f1) kB"

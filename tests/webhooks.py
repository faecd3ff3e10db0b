"""Receives webhooks of a running hub and verifies them by public libraries: `standardwebhooks` and `svix` for v1, `cryptography`
for v1a. It knows nothing of the hub but what docs/endpoints.md says.

Usage: webhooks.py UZEL, where UZEL is the program.
"""

import base64
import http.server
import json
import os
import queue
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import svix.webhooks
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

KEY = "a-key-of-twenty-four-characters"
GOT = queue.Queue()


class Shop(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        GOT.put((body, {name.lower(): value for name, value in self.headers.items()}))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def verify(body, headers, secret, public_key):
    text = body.decode()
    by_standard = Webhook(secret).verify(text, headers)
    assert by_standard == json.loads(text), text
    svix.webhooks.Webhook(secret).verify(text, headers)
    for wrong in (text + " ", text[1:]):
        for library, refusal in ((Webhook, WebhookVerificationError), (svix.webhooks.Webhook, svix.webhooks.WebhookVerificationError)):
            try:
                library(secret).verify(wrong, headers)
            except refusal:
                continue
            raise AssertionError("a changed body was taken")
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key.removeprefix("whpk_")))
    made = [item.removeprefix("v1a,") for item in headers["webhook-signature"].split(" ") if item.startswith("v1a,")]
    assert any(is_good(key, base64.b64decode(one), signed) for one in made), headers["webhook-signature"]
    return by_standard


def is_good(key, signature, signed):
    try:
        key.verify(signature, signed)
        return True
    except Exception:
        return False


def main(program):
    shop = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Shop)
    threading.Thread(target=shop.serve_forever, daemon=True).start()
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "UZEL_ALLOW_NETWORKS": "127.0.0.0/8"}

        def uzel(*words):
            ran = subprocess.run([program, *words, "--json"], cwd=folder, env=environment, capture_output=True, text=True)
            assert ran.returncode == 0, ran.stdout + ran.stderr
            return json.loads(ran.stdout)

        with open(f"{folder}/setup.toml", "w") as setup:
            setup.write(f"""
[[merchant]]
slug = "cafe"

[[connection]]
merchant = "cafe"
slug = "till"
provider = "rkeeper"
webhook_keys = ["{KEY}"]

[[endpoint]]
merchant = "cafe"
slug = "shop"
url = "http://127.0.0.1:{shop.server_address[1]}/hooks"
events = ["order.*"]
""")
        hub = subprocess.Popen([program, "serve", "--listen", f"127.0.0.1:{port}"], cwd=folder, env=environment, stderr=subprocess.DEVNULL)
        try:
            for _ in range(200):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz")
                    break
                except OSError:
                    time.sleep(0.05)
            applied = uzel("apply", "setup.toml")
            old = applied["secrets"][0][1]
            old_key = uzel("endpoints", "show", "shop")["keys"][0]["public_key"]

            def order(number):
                body = json.dumps({"order": {"id": number, "status": "Completed", "customer": {"name": "Мария", "phone": "+79991234567"}}})
                request = urllib.request.Request(f"http://127.0.0.1:{port}/api/webhook/rkeeper?key={KEY}", body.encode(), {"content-type": "application/json"})
                urllib.request.urlopen(request)
                return GOT.get(timeout=30)

            event = verify(*order(1), old, old_key)
            assert (event["type"], event["data"]["person"]["name"]) == ("order.completed", "Мария"), event
            new = uzel("endpoints", "rotate", "shop")
            body, headers = order(2)
            for secret, public_key in ((old, old_key), (new["secret"], new["public_key"])):
                verify(body, headers, secret, public_key)
            assert uzel("endpoints", "test", "shop")["delivered"]
            verify(*GOT.get(timeout=30), new["secret"], new["public_key"])
        finally:
            hub.terminate()
            hub.wait()
    print("webhooks are good by standardwebhooks, svix (v1) and cryptography (v1a), before, during and after a rotation")


main(os.path.abspath(sys.argv[1]))

"""Drives the stand-in of WhatsApp's Cloud API with the PyPI clients `heyoo` (0.1.2) and `pywa` (4.5.0), and has pywa read and
verify the webhooks that the stand-in sends.

    python whatsappmeta_client.py http://127.0.0.1:8099
"""

import json
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

from heyoo import WhatsApp as Heyoo
from pywa import WhatsApp, errors, types, utils

NUMBER = "106540352242922"
SECRET = "0f5c1d7e9a3b48c6b2d41e6f7a8095cd"
WINDOW_CLOSED = 131047

got = []


class Hub(BaseHTTPRequestHandler):
    """Keeps what comes; greets as pywa's own check says."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        got.append((body, self.headers["X-Hub-Signature-256"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


def control(url: str, path: str, body: dict, method: str = "POST") -> dict:
    request = urllib.request.Request(f"{url}/_sandbox/whatsappmeta/{path}", json.dumps(body).encode(), method=method)
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def by_heyoo(url: str) -> None:
    client = Heyoo(token="EAA", phone_number_id=NUMBER)
    client.base_url = f"{url}/whatsappmeta/v23.0"
    client.url = f"{client.base_url}/{NUMBER}/messages"
    sent = client.send_message("Привет", "79990001122")
    assert sent["messages"][0]["id"].startswith("wamid."), sent
    assert sent["contacts"][0]["wa_id"] == "79990001122", sent
    parameters = [{"type": "body", "parameters": [{"type": "text", "text": "Кофейня"}]}]
    sent = client.send_template("review_request", "79990001122", components=parameters, lang="ru")
    assert sent["messages"][0]["message_status"] == "accepted", sent
    missing = client.send_template("review_request", "79990001122", components=parameters, lang="ru_RU")
    assert missing["error"]["code"] == 132001, missing
    wrong = client.send_template("review_request", "79990001122", components=[], lang="ru")
    assert wrong["error"]["code"] == 132000, wrong
    stranger = Heyoo(token="EAA", phone_number_id="1")
    stranger.url = f"{url}/whatsappmeta/v23.0/1/messages"
    assert stranger.send_message("Hi", "79990001122")["error"]["code"] == 100


def client_of(url: str, token: str = "EAA") -> WhatsApp:
    wa = WhatsApp(phone_id=NUMBER, token=token, server=None, app_secret=SECRET)
    wa.api._session.base_url = f"{url}/whatsappmeta/v25.0"
    return wa


def by_pywa(url: str) -> None:
    wa = client_of(url)
    sent = wa.send_message(to="79990001133", text="Спасибо, что были у нас", tracker="cmd_1")
    assert sent.id.startswith("wamid."), sent
    for token, to, expected in (("wrong", "79990001133", 190), ("EAA", "79990001144", 131056)):
        if expected == 131056:
            control(url, "settings", {"pair_burst": 0}, "PUT")
        try:
            client_of(url, token).send_message(to=to, text="Hi")
        except errors.WhatsAppError as error:
            assert error.code == expected, error
        else:
            raise AssertionError(f"{expected} was to come")
    control(url, "settings", {"pair_burst": 45}, "PUT")


def webhooks(url: str) -> None:
    server = HTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hub = f"http://127.0.0.1:{server.server_port}/hook"
    control(url, "send/statuses", {"url": hub})
    control(url, "send/inbound", {"url": hub, "from": "79990001133", "text": "да"})
    control(url, "send/inbound", {"url": hub, "from": "79990001133", "type": "button", "payload": "RATE_5", "text": "5"})
    control(url, "send/template_status", {"url": hub})
    control(url, "send/webhook_inbound_text", {"url": hub})
    for body, signature in got:
        assert utils.webhook_updates_validator(SECRET, body, signature), body
        assert not utils.webhook_updates_validator("another", body, signature)
    wa = client_of(url)
    read = []
    for body, _ in got:
        update = json.loads(body)
        handler = next((kind for kind in (types.MessageStatus, types.CallbackButton, types.Message) if fits(kind, update)), None)
        if handler is not None:
            read.append(handler.from_update(client=wa, update=update))
    statuses = [update for update in read if isinstance(update, types.MessageStatus)]
    assert statuses and all(status.id.startswith("wamid.") for status in statuses), statuses
    # Nobody had written: free words fail, and the template goes its way.
    assert any(status.error is not None and status.error.code == WINDOW_CLOSED for status in statuses), statuses
    assert any(status.tracker == "cmd_1" for status in statuses), statuses
    assert any(isinstance(update, types.Message) and update.text == "да" for update in read), read
    assert any(isinstance(update, types.CallbackButton) and update.data == "RATE_5" for update in read), read
    server.shutdown()


def fits(kind: type, update: dict) -> bool:
    value = update["entry"][0]["changes"][0]["value"]
    if kind is types.MessageStatus:
        return "statuses" in value
    form = value.get("messages", [{}])[0].get("type")
    return form == "button" if kind is types.CallbackButton else form == "text"


def main(url: str) -> None:
    by_heyoo(url)
    by_pywa(url)
    webhooks(url)
    print("whatsappmeta: fine")


main(sys.argv[1].rstrip("/"))

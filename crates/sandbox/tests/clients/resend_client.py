"""Drives the Resend stand-in with the PyPI client `resend` (2.52.0), and judges its webhooks by the client's own verifier and by
the one of PyPI `svix` (2.9.1).

    python resend_client.py http://127.0.0.1:8099
"""

import json
import os
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

url = sys.argv[1].rstrip("/")
os.environ["RESEND_API_URL"] = url + "/resend"

import resend  # noqa: E402 (it reads the address when it is imported)
from svix.webhooks import Webhook  # noqa: E402

SECRET = "whsec_Kpjh/OtoRYswQhc0tKZa0eXUc1nZJtmm"
FROM = "Кофейня <noreply@mail.example.com>"


class Receiver(BaseHTTPRequestHandler):
    got = []

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        Receiver.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


def refused(call, name: str) -> None:
    try:
        call()
    except resend.exceptions.ResendError as error:
        assert error.error_type == name, (error.error_type, error.message)
    else:
        raise AssertionError(f"not refused: {name}")


def control(path: str, body: object, method: str) -> dict:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{url}/_sandbox/resend/{path}", data, method=method)
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def main() -> None:
    resend.api_key = "re_example_key"
    mail = {"from": FROM, "to": ["ivan@example.com"], "subject": "Чек", "html": "<p>Код</p>",
            "tags": [{"name": "kind", "value": "verification"}]}
    first = resend.Emails.send(mail, {"idempotency_key": "msg_1"})
    assert resend.Emails.send(mail, {"idempotency_key": "msg_1"})["id"] == first["id"]
    refused(lambda: resend.Emails.send({**mail, "subject": "Другое"}, {"idempotency_key": "msg_1"}), "invalid_idempotent_request")
    shown = resend.Emails.get(first["id"])
    assert shown["last_event"] == "delivered" and shown["to"] == ["ivan@example.com"], shown
    batch = resend.Batch.send([{**mail, "to": "a@example.com"}, {**mail, "to": "b@example.com"}])
    assert len(batch["data"]) == 2, batch
    good, bad = {**mail, "to": "c@example.com"}, {**mail, "to": "nobody"}
    # All or nothing, unless asked otherwise; then the places of those that are refused are told.
    sent = control("summary", None, "GET")["accepted"]
    refused(lambda: resend.Batch.send([good, bad]), "validation_error")
    assert control("summary", None, "GET")["accepted"] == sent
    options = {"batch_validation": "permissive", "idempotency_key": "batch_1"}
    some = resend.Batch.send([bad, good, bad], options)
    assert len(some["data"]) == 1 and [error["index"] for error in some["errors"]] == [0, 2], some
    # One key stands for the batch: the same again sends nothing, another body is refused.
    assert resend.Batch.send([bad, good, bad], options)["data"] == some["data"]
    assert control("summary", None, "GET")["accepted"] == sent + 1
    refused(lambda: resend.Batch.send([good], options), "invalid_idempotent_request")
    assert len(resend.Batch.send([good] * 100)["data"]) == 100
    for wrong in ([good] * 101, [], [{**good, "attachments": [{"filename": "a", "content": "YQ=="}]}],
                  [{**good, "scheduled_at": "2027-01-01T00:00:00Z"}]):
        refused(lambda: resend.Batch.send(wrong), "validation_error")
    file = {"filename": "chek.txt", "content": "0KfQtdC6", "content_type": "text/plain"}
    resend.Emails.send({**mail, "attachments": [file]})
    refused(lambda: resend.Emails.send({**mail, "to": "nobody"}), "validation_error")
    refused(lambda: resend.Emails.send({**mail, "from": "a@elsewhere.org"}), "validation_error")
    control("settings", {"daily_quota": 1}, "PUT")
    refused(lambda: resend.Emails.send(mail), "daily_quota_exceeded")
    control("settings", {"daily_quota": None}, "PUT")
    resend.api_key = "wrong"
    refused(lambda: resend.Emails.send(mail), "invalid_api_key")

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hook = f"http://127.0.0.1:{server.server_port}/"
    for names in ("svix", "webhook"):
        control("send/webhook", {"url": hook, "email_id": first["id"], "event": "bounced", "names": names}, "POST")
        headers, body = Receiver.got[-1]
        event = Webhook(SECRET).verify(body, headers)
        assert event is None or event["data"]["email_id"] == first["id"], event
        assert json.loads(body)["data"]["tags"] == {"kind": "verification"}
        resend.Webhooks.verify({
            "payload": body.decode(),
            "headers": {part: headers[f"{names}-{part}"] for part in ("id", "timestamp", "signature")},
            "webhook_secret": SECRET,
        })
    server.shutdown()
    print("resend: fine")


main()

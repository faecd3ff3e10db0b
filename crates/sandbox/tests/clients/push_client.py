"""Drives the stand-ins of push with the PyPI clients `pywebpush` (2.5.0) and `firebase-admin` (7.7.0).

    python push_client.py http://127.0.0.1:8099
"""

import base64
import json
import pathlib
import sys
import urllib.request

import firebase_admin
from firebase_admin import credentials, exceptions, messaging
from pywebpush import WebPushException, webpush

SAMPLES = pathlib.Path(__file__).parents[2] / "samples" / "push"


def shown(url: str) -> list:
    with urllib.request.urlopen(url) as answer:
        return json.load(answer)


def web_push(url: str) -> None:
    subscription = shown(url + "/_sandbox/webpush/subscription")
    key = json.loads((SAMPLES / "vapid_vector.json").read_text())["private_key_b64url"]

    def send(path: str, **more):
        return webpush(
            {**subscription, "endpoint": url + path},
            data=json.dumps({"title": "Выручка за день", "body": "1 250 000 сум"}),
            vapid_private_key=key,
            vapid_claims={"sub": "mailto:ops@example.com"},
            ttl=60,
            **more,
        )

    assert send("/webpush/wpush/v2/browser", headers={"Topic": "day", "Urgency": "low"}).status_code == 201
    message = shown(url + "/_sandbox/webpush/messages")[-1]
    assert message["payload"] == {"title": "Выручка за день", "body": "1 250 000 сум"}, message
    assert (message["ttl"], message["topic"], message["urgency"]) == (60, "day", "low"), message
    for path, status in [("gone", 410), ("missing", 404), ("forbidden", 403), ("busy", 429)]:
        try:
            send("/webpush/wpush/v2/" + path)
            raise AssertionError(path)
        except WebPushException as error:
            assert error.response.status_code == status, error
    try:
        send("/webpush/wpush/v2/browser", content_encoding="aesgcm")
        raise AssertionError("the old scheme was taken")
    except WebPushException as error:
        assert error.response.status_code == 400, error


def fcm(url: str) -> None:
    account = json.loads((SAMPLES / "fcm_service_account.json").read_text())
    pem = base64.encodebytes(base64.b64decode(account["private_key_pkcs8_base64"])).decode()
    account["private_key"] = f"-----BEGIN PRIVATE KEY-----\n{pem}-----END PRIVATE KEY-----\n"
    account["token_uri"] = url + "/fcm/token"
    firebase_admin.initialize_app(credentials.Certificate(account))
    messaging._MessagingService.FCM_URL = url + "/fcm/v1/projects/{0}/messages:send"

    def send(token: str, **more) -> str:
        notification = messaging.Notification(title="Выручка за день", body="1 250 000 сум")
        return messaging.send(messaging.Message(token=token, notification=notification, data={"kind": "day"}), **more)

    assert send("cGlZ-Rx0TjC4:APA91bE_invented").startswith("projects/hub-demo/messages/0:")
    assert shown(url + "/_sandbox/fcm/messages")[-1]["data"] == {"kind": "day"}
    assert send("cGlZ-Rx0TjC4:APA91bE_invented", dry_run=True).endswith("fake_message_id")
    for token, kind in [
        ("unregistered", messaging.UnregisteredError),
        ("mismatch", messaging.SenderIdMismatchError),
        ("quota", messaging.QuotaExceededError),
        ("third-party", messaging.ThirdPartyAuthError),
        ("malformed", exceptions.InvalidArgumentError),
    ]:
        try:
            send(token)
            raise AssertionError(token)
        except kind:
            pass


def main(url: str) -> None:
    web_push(url)
    fcm(url)
    print("push: fine")


main(sys.argv[1].rstrip("/"))

"""Drives the SMS.ru stand-in with the PyPI client `smsru-api` (1.4.1).

    python smsru_client.py http://127.0.0.1:8099

The client sends ten digits without the 7, and `text` instead of `msg`.
"""

import sys

from smsru_api import SmsRu


def main(url: str) -> None:
    client = SmsRu("A1B2C3D4-1111-2222-3333-444455556666")
    client._base_url = url + "/smsru"

    sent = client.send("+79990001122", "84993221627", message="Оставьте отзыв")
    assert sent["status_code"] == 100, sent
    assert sent["sms"]["79990001122"]["sms_id"], sent
    assert sent["sms"]["74993221627"]["status_code"] == 207, sent

    multi = client.send(multi={"79990001122": "Иван", "79990003344": "Анна"})
    assert {entry["status_code"] for entry in multi["sms"].values()} == {100}, multi

    status = client.status(sent["sms"]["79990001122"]["sms_id"])
    assert status["status_code"] == 100, status
    cost = client.cost("79990001122", message="Привет")
    assert cost["total_sms"] == 1, cost
    assert client.balance()["balance"] > 0
    assert client.limit()["status_code"] == 100
    assert client.free()["status_code"] == 100
    assert client.senders()["senders"]

    client.add_stop_list("79990005566", "Отписка")
    assert client.stop_list()["stoplist"] == {"79990005566": "Отписка"}
    refused = client.send("79990005566", message="Привет")
    assert refused["sms"]["79990005566"]["status_code"] == 209, refused
    client.del_stop_list("79990005566")
    assert client.stop_list()["stoplist"] == []

    assert client.add_callback("https://hub.example/h")["callback"] == ["https://hub.example/h"]
    assert client.del_callback("https://hub.example/h")["callback"] == []
    check = client.callcheck_add("79990001122")
    assert client.callcheck_status(check["check_id"])["check_status"] == "400"

    wrong = SmsRu("wrong")
    wrong._base_url = url + "/smsru"
    assert wrong.balance()["status_code"] == 200
    print("smsru: fine")


main(sys.argv[1].rstrip("/"))

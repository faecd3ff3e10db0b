"""Drives the iiko stand-in with the PyPI client `pyiikocloudapi` (0.0.32).

    python iiko_client.py http://127.0.0.1:8099

The client asks for its token in the constructor and encodes that body twice, as it does with the real service.
"""

import sys

from pyiikocloudapi import IikoTransport

CAFE = "7bc05553-4b68-44e8-b7bc-37be63c6d9e9"
TABLE_ORDER = "8d3b9e1a-77f2-4c0a-b8a1-6a6c9d0e2f32"
ORDER = "497f6eca-6276-4993-bfeb-53cbbbba6f08"


def main(url: str) -> None:
    base = url + "/iiko"
    api = IikoTransport("demo-login-0001", base_url=base)
    organizations = api.organizations()
    assert [item.id for item in organizations.organizations] == [CAFE], organizations

    # Its models are narrower than the service's answers, so that orders are asked for as plain dictionaries. It has
    # no method for deliveries by id; its transport is used for that.
    raw = IikoTransport("demo-login-0001", base_url=base, return_dict=True)

    def by_id(order: str) -> list:
        data = {"organizationId": CAFE, "orderIds": [order]}
        return raw._post_request("/api/1/deliveries/by_id", data)["orders"]

    assert by_id(ORDER)[0]["order"]["phone"] == "+79990001122"
    assert by_id("00000000-0000-4000-8000-000000000000") == []

    tables = raw.order_by_id([CAFE], order_ids=[TABLE_ORDER])
    assert len(tables["orders"]) == 1, tables
    by_date = raw.by_delivery_date_and_status([CAFE], "2026-01-01 00:00:00.000", statuses=["Delivered", "Closed"])
    assert len(by_date["ordersByOrganizations"][0]["orders"]) == 1, by_date
    guest = raw.customer_info(CAFE, "79990001122", "phone")
    assert guest["name"] == "Мария", guest
    nobody = raw.customer_info(CAFE, "79990000000", "phone")
    assert "no user" in str(nobody), nobody
    changed = raw.update_order_delivery_status(CAFE, ORDER, "OnWay")
    assert by_id(ORDER)[0]["order"]["status"] == "OnWay", changed

    # The second kind of login; this client sends `apiLogin` where the document says `apiKey`.
    second = IikoTransport(
        "user-key-0001",
        app_id="00000000-0000-4000-8000-000000000015",
        client_secret="sk_live_demo",
        base_url=base,
    )
    assert second.organizations().organizations[0].id == CAFE
    print("iiko: fine")


main(sys.argv[1].rstrip("/"))

"""A tour of the API by a client that `openapi-python-client` has made of the hub's own document.

    PYTHONPATH=FOLDER_OF_CLIENT python tour.py http://127.0.0.1:8080 http://127.0.0.1:8099 OWNER_KEY

The second address is that of the stand-ins (`uzel sandbox`), by which the texts go.
"""

import sys
import time

import httpx
from client import AuthenticatedClient
from client.api.audit import audit_list
from client.api.commands import commands_ask, commands_cancel, commands_list, commands_show
from client.api.connections import (
    connections_change,
    connections_create,
    connections_health,
    connections_pause,
    connections_remove,
    connections_resume,
    connections_show,
    keys_create_webhook,
    keys_list_webhook,
    keys_remove_webhook,
)
from client.api.dead_letters import journal_dead_letters
from client.api.events import events_feed, events_list, events_show
from client.api.flows import flows_change, flows_create, flows_remove, flows_restore, flows_versions
from client.api.journal import journal_list, journal_show
from client.api.keys import keys_create, keys_list, keys_remove
from client.api.me import hub_myself
from client.api.merchants import (
    merchants_create,
    merchants_remove,
    merchants_show,
    outlets_create,
    outlets_issue,
    outlets_list,
    outlets_pos,
    outlets_remove,
    people_erase,
)
from client.api.providers import providers_list
from client.api.replay import journal_replay
from client.models import (
    CommandRequest,
    ConnectionChange,
    ErasureRequest,
    FlowChange,
    Ground,
    KeyRequest,
    NewConnection,
    NewConnectionSettingsType0,
    NewFlow,
    NewMerchant,
    NewOutlet,
    Pos,
    Problem,
    ReplayRequest,
    Role,
)

PHONE = "+79035550102"
SMSRU_KEY = "A1B2C3D4-1111-2222-3333-444455556666"


def done(answer, status=200):
    """What was answered, where it was this; a 204 has nothing."""
    assert answer.status_code == status, (answer.status_code, answer.content)
    return answer.parsed


def refused(answer, status, kind):
    assert answer.status_code == status, (answer.status_code, answer.content)
    assert isinstance(answer.parsed, Problem) and answer.parsed.type_ == f"/problems/{kind}", answer.parsed
    return answer.parsed


def until(what, ask):
    """Asks until there is something; a minute at the most."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if found := ask():
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited a minute for {what}")


def set_up(admin, sandbox):
    """A restaurant that thanks its guests by SMS.ru's stand-in; gives the till and its webhook key."""
    shop = done(merchants_create.sync_detailed(client=admin, body=NewMerchant(slug="tour", name="Tour", country="RU")), 201)
    outlet = NewOutlet(slug="hall", name="The hall", zone="Europe/Moscow")
    outlet = done(outlets_create.sync_detailed("tour", client=admin, body=outlet), 201)
    assert (outlet.merchant_id, outlet.pos_type) == (shop.id, "VIRTUAL")
    till = NewConnection(merchant="tour", outlet="hall", slug="tour-till", provider="rkeeper")
    till = done(connections_create.sync_detailed(client=admin, body=till), 201)
    settings = NewConnectionSettingsType0.from_dict({"base_url": f"{sandbox}/smsru", "api_id": SMSRU_KEY})
    sms = NewConnection(merchant="tour", slug="tour-sms", provider="smsru", settings=settings)
    sms = done(connections_create.sync_detailed(client=admin, body=sms), 201)
    assert (sms.secrets, "api_id" in sms.settings) == (["api_id"], False), sms
    flow = NewFlow(
        merchant="tour", slug="tour-thanks", on=["order.completed"], ground=Ground.SERVICE, ground_by="the tour", via="tour-sms", text="Thank you!"
    )
    done(flows_create.sync_detailed(client=admin, body=flow), 201)
    return till


def main(hub, sandbox, owner_key):
    admin = AuthenticatedClient(base_url=hub, token=owner_key)
    assert done(hub_myself.sync_detailed(client=admin)).role == "admin"
    assert "rkeeper" in [provider.id for provider in done(providers_list.sync_detailed(client=admin)).items]
    till = set_up(admin, sandbox)

    key = done(keys_create.sync_detailed(client=admin, body=KeyRequest(role=Role.OWNER, merchant="tour", label="tour")), 201)
    owner = AuthenticatedClient(base_url=hub, token=key.key)
    listed = done(keys_list.sync_detailed(client=owner)).items
    assert [(row.id, row.key) for row in listed] == [(key.id, listed[0].key)] and not listed[0].key, listed
    # What belongs to another merchant is not there.
    refused(merchants_show.sync_detailed("cafe", client=owner), 404, "not-found")
    refused(merchants_create.sync_detailed(client=owner, body=NewMerchant(slug="more")), 403, "forbidden")

    # A webhook comes in and a text goes out.
    cursor = done(events_feed.sync_detailed(client=owner)).cursor
    order = {"order": {"id": "7001", "status": "Выполнен", "sum": "640.50", "customer": {"phone": PHONE}}}
    assert httpx.post(f"{hub}/hooks/{till.id}", params={"key": till.webhook_key}, json=order).status_code == 200
    told = until("the event", lambda: done(events_feed.sync_detailed(client=owner, after=cursor, wait_s=20)).items)
    assert [(event.type_, event.merchant, event.pending) for event in told] == [("order.completed", "tour", False)], told
    assert done(events_show.sync_detailed(told[0].id, client=owner)).subject == told[0].subject
    assert [event.id for event in done(events_list.sync_detailed(client=owner, type_="order.*")).items] == [told[0].id]
    state = lambda: [row for row in done(commands_list.sync_detailed(client=owner)).items if row.state == "done"]
    [command] = until("the text to be sent", state)
    shown = done(commands_show.sync_detailed(command.id, client=owner))
    assert len(shown.exchanges) == 1 and PHONE not in str(shown), shown
    rows = done(journal_list.sync_detailed(client=owner, order="7001")).items
    [entry] = [row.id for row in rows if row.direction == "IN"]
    timeline = done(journal_show.sync_detailed(entry, client=owner))
    assert (timeline.state, len(timeline.commands)) == ("read", 1), timeline
    assert done(journal_dead_letters.sync_detailed(client=owner)).items == []
    assert done(journal_replay.sync_detailed(client=owner, body=ReplayRequest(entry=entry))).count == 1

    # A text is asked for once, and called off while it waits.
    late = CommandRequest.from_dict(
        {"merchant": "tour", "via": "tour-sms", "to": PHONE, "text": "Later", "ground": "service", "due_at": "2100-01-01T00:00:00Z"}
    )
    refused(commands_ask.sync_detailed(client=owner, body=late, idempotency_key="late"), 422, "invalid")
    soon = CommandRequest.from_dict({**late.to_dict(), "due_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))})
    asked = done(commands_ask.sync_detailed(client=owner, body=soon, idempotency_key="soon"), 202)
    assert done(commands_ask.sync_detailed(client=owner, body=soon, idempotency_key="soon"), 202).id == asked.id
    assert done(commands_cancel.sync_detailed(asked.id, client=owner)).state == "held"
    assert done(commands_show.sync_detailed(asked.id, client=owner)).reason == "called off"

    # Two people change one thing.
    assert done(connections_health.sync_detailed("tour-sms", client=owner)).healthy
    shown = connections_show.sync_detailed("tour-sms", client=owner)
    change = ConnectionChange.from_dict({"settings": {"from": "Tour"}})
    changed = connections_change.sync_detailed("tour-sms", client=owner, body=change, if_match=shown.headers["etag"])
    assert done(changed).settings["from"] == "Tour"
    change = ConnectionChange.from_dict({"settings": {"from": "Other"}})
    again = connections_change.sync_detailed("tour-sms", client=owner, body=change, if_match=shown.headers["etag"])
    refused(again, 412, "changed-meanwhile")
    assert done(connections_pause.sync_detailed("tour-sms", client=owner)).paused
    assert not done(connections_resume.sync_detailed("tour-sms", client=owner)).paused
    assert done(flows_change.sync_detailed("tour-thanks", client=owner, body=FlowChange(text="Thanks!"))).rule.text == "Thanks!"
    assert len(done(flows_versions.sync_detailed("tour-thanks", client=owner)).items) == 2
    assert done(flows_restore.sync_detailed("tour-thanks", 1, client=owner)).rule.text == "Thank you!"

    # Keys are moved without a gap.
    old = done(keys_list_webhook.sync_detailed("tour-till", client=owner)).items
    done(keys_create_webhook.sync_detailed("tour-till", client=owner), 201)
    done(keys_remove_webhook.sync_detailed("tour-till", old[0].id, client=owner), 204)
    assert httpx.post(f"{hub}/hooks/{till.id}", params={"key": till.webhook_key}, json=order).status_code == 401
    assert done(outlets_pos.sync_detailed("tour", "hall", client=owner, body=Pos(pos_type="SMART"))).pos_type == "SMART"
    assert done(outlets_issue.sync_detailed("tour", "hall", client=owner)).secret
    assert done(outlets_list.sync_detailed("tour", client=owner)).items[0].bridge_secret_issued

    # A person is forgotten, and everything is taken away.
    assert done(people_erase.sync_detailed("tour", client=owner, body=ErasureRequest(phone=PHONE))).entries == 1
    actions = {row.action for row in done(audit_list.sync_detailed(client=owner, limit=100)).items}
    assert {"connection.change", "flow.change", "command.cancel", "person.erase"} <= actions, actions
    refused(connections_remove.sync_detailed("tour-sms", client=owner), 409, "conflict")
    done(flows_remove.sync_detailed("tour-thanks", client=owner), 204)
    for slug in ["tour-sms", "tour-till"]:
        done(connections_remove.sync_detailed(slug, client=owner), 204)
    done(outlets_remove.sync_detailed("tour", "hall", client=owner), 204)
    done(keys_remove.sync_detailed(key.id, client=admin), 204)
    refused(hub_myself.sync_detailed(client=owner), 401, "unauthorized")
    done(merchants_remove.sync_detailed("tour", client=admin), 204)


if __name__ == "__main__":
    main(*sys.argv[1:])

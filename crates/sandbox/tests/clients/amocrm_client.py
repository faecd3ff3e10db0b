"""Drives the amoCRM stand-in with the PyPI client `amocrm-api` (2.6.1).

    python amocrm_client.py http://127.0.0.1:8099

The client's host is fixed, so its requests are turned round on their way out.
"""

import sys

import requests
from requests.adapters import HTTPAdapter

from amocrm.v2 import Contact, Lead, interaction, tokens


class Turn(HTTPAdapter):
    """Sends what is meant for amoCRM to the stand-in."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.base = url + "/amocrm"

    def send(self, request, **options):
        request.url = self.base + request.path_url
        return super().send(request, **options)


def main(url: str) -> None:
    interaction._session.mount("https://", Turn(url))
    session = requests.Session()
    session.mount("https://", Turn(url))
    # The token part calls the module's functions instead of a session.
    tokens.requests = type("Requests", (), {"post": session.post, "exceptions": requests.exceptions})

    manager = tokens.default_token_manager
    manager(
        client_id="5e1f2a3b-0000-4000-8000-00000000c1d0",
        client_secret="cs_example_amo_1",
        subdomain="example",
        redirect_url="https://hub.example/oauth/amocrm",
        storage=tokens.MemoryTokensStorage(),
    )
    manager.init(code="def5020001", skip_error=False)
    lead = Lead.objects.get(object_id=40331001)
    assert lead.name and lead.price == 15000, lead
    contact = Contact.objects.get(object_id=52171001)
    assert contact.first_name == "Мария", contact
    print("amocrm: fine")


main(sys.argv[1].rstrip("/"))

"""Drives the Telegram stand-in with the PyPI client `python-telegram-bot` (22.8).

    python telegram_client.py http://127.0.0.1:8099

The client sends url-encoded forms, with nested objects as JSON text, and parts where there is a file.
"""

import asyncio
import json
import sys
import urllib.request

from telegram import Bot, InlineKeyboardButton, InlineKeyboardMarkup, Update
from telegram.error import BadRequest, ChatMigrated, Conflict, Forbidden, InvalidToken, RetryAfter

TOKEN = "7000000001:AAtestTokenOfTheStandIn0123456789abc"


def settings(url: str, patch: dict) -> None:
    request = urllib.request.Request(
        url + "/_sandbox/telegram/settings",
        data=json.dumps(patch).encode(),
        headers={"content-type": "application/json"},
        method="PUT",
    )
    urllib.request.urlopen(request).read()


def put_updates(url: str, updates: list) -> None:
    request = urllib.request.Request(
        url + "/_sandbox/telegram/updates",
        data=json.dumps(updates).encode(),
        headers={"content-type": "application/json"},
        method="PUT",
    )
    urllib.request.urlopen(request).read()


async def refused(kind: type, call) -> Exception:
    try:
        await call
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was expected")


async def main(url: str) -> None:
    base = url + "/telegram/bot"
    async with Bot(TOKEN, base_url=base) as bot:
        assert (await bot.get_me()).username == "hub_demo_bot"

        button = InlineKeyboardMarkup([[InlineKeyboardButton("Открыть", url="https://hub.example/x")]])
        sent = await bot.send_message(123456789, "<b>Выручка</b> 1 &lt; 2", parse_mode="HTML", reply_markup=button)
        assert sent.text == "Выручка 1 < 2" and sent.chat.id == 123456789, sent
        photo = await bot.send_photo(123456789, b"\x89PNG\r\n\x1a\n0123", caption="День")
        assert photo.caption == "День" and photo.photo, photo
        document = await bot.send_document(123456789, b"a;b", filename="a.csv")
        assert document.document, document

        wrong = await refused(BadRequest, bot.send_message(123456789, "<br>", parse_mode="HTML"))
        assert "parse entities" in str(wrong), wrong
        await refused(BadRequest, bot.send_message(123456789, "x" * 4097))
        settings(url, {"blocked": [5], "unknown": [6], "moved": {"-7": -1001234567890}})
        await refused(Forbidden, bot.send_message(5, "x"))
        await refused(BadRequest, bot.send_message(6, "x"))
        moved = await refused(ChatMigrated, bot.send_message(-7, "x"))
        assert moved.new_chat_id == -1001234567890, moved

        put_updates(url, [{"update_id": 11, "message": {"message_id": 1, "date": 1, "chat": {"id": 5, "type": "private"}, "text": "/start c"}}])
        updates = await bot.get_updates(timeout=0)
        assert isinstance(updates[0], Update) and updates[0].message.text == "/start c", updates
        assert await bot.get_updates(offset=12, timeout=0) == ()

        await bot.set_webhook("https://hub.example/hooks/1", secret_token="hub_2026-secret", allowed_updates=["message"])
        info = await bot.get_webhook_info()
        assert info.url == "https://hub.example/hooks/1" and info.allowed_updates == ("message",), info
        await refused(Conflict, bot.get_updates(timeout=0))
        await bot.delete_webhook()

        settings(url, {"retry_after": 3})
        limited = await refused(RetryAfter, bot.send_message(123456789, "x"))
        assert int(getattr(limited.retry_after, "total_seconds", lambda: limited.retry_after)()) == 3, limited
        settings(url, {"retry_after": 0, "blocked": [], "unknown": [], "moved": {}})

    await refused(InvalidToken, Bot("7000000001:wrong-token-of-somebody", base_url=base).initialize())
    print("telegram: fine")


asyncio.run(main(sys.argv[1].rstrip("/")))

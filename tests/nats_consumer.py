"""Takes events of Uzel by the public NATS client for Python, and prints one line of JSON for each.

Usage: nats_consumer.py URL COUNT. It knows nothing of Uzel but what docs/nats.md says.
"""

import asyncio
import json
import sys

import nats


async def main(url: str, count: int) -> None:
    client = await nats.connect(url)
    events = await client.jetstream().pull_subscribe("uzel.events.>", durable="python", stream="UZEL")
    while count > 0:
        for message in await events.fetch(min(count, 100), timeout=30):
            event = json.loads(message.data)
            print(json.dumps({"subject": message.subject, "headers": message.headers, "event": event}))
            await message.ack()
            count -= 1
    await client.close()


asyncio.run(main(sys.argv[1], int(sys.argv[2])))

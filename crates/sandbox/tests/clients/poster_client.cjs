// Drives the Poster stand-in with the npm client `joinposter-api` (0.0.47), and has that client verify the stand-in's webhooks.
//
//     node poster_client.cjs http://127.0.0.1:8099
"use strict";

const assert = require("node:assert");
const http = require("node:http");
const { Poster, Webhook } = require("joinposter-api");
const { BaseApiRoute } = require("joinposter-api/dist/core/base");

const TOKEN = "700001:5d41402abc4b2a76b9719d911017c592";
const SECRET = "0123456789abcdef0123456789abcdef";

/** Where webhooks come in: gives the body of the next one. */
function receiver() {
  const came = [];
  const server = http.createServer((request, response) => {
    let body = "";
    request.on("data", (part) => (body += part));
    request.on("end", () => {
      came.push(JSON.parse(body));
      response.setHeader("content-type", "application/json");
      response.end('{"status":"accept"}');
    });
  });
  return new Promise((ready) => {
    server.listen(0, "127.0.0.1", () => ready({ came, server, url: `http://127.0.0.1:${server.address().port}/` }));
  });
}

async function reads(url) {
  // The client's address is a static member; that of its OAuth is fixed in its code.
  BaseApiRoute.urlPrefix = `${url}/poster/api`;
  const poster = new Poster(TOKEN);
  const [order] = await poster.dash.getTransaction({ transaction_id: "16776", include_products: true });
  assert.deepStrictEqual([order.transaction_id, order.payed_sum, order.products.length], ["16776", "2750", 2]);
  const [client] = await poster.clients.getClient({ client_id: "42" });
  assert.strictEqual(client.phone_number, "79990000042");
  const [found] = await poster.clients.getClients({ phone: "+79990000042" });
  assert.strictEqual(found.client_id, "42");
  const [spot] = await poster.access.getSpots();
  assert.strictEqual(spot.spot_id, "1");
  const made = await poster.incomingOrders.createIncomingOrder({
    spot_id: 1,
    phone: "+79990000042",
    products: [{ product_id: 169, count: 1 }],
  });
  assert.deepStrictEqual([made.status, made.transaction_id], [0, null]);
  const kept = await poster.incomingOrders.getIncomingOrder(made.incoming_order_id);
  assert.strictEqual(kept.phone, "79990000042");
  await assert.rejects(poster.incomingOrders.getIncomingOrder(999), { code: 404 });
  await assert.rejects(new Poster("700001:00000000000000000000000000000000").access.getSpots(), { code: 11 });
  await assert.rejects(new Poster("").access.getSpots(), { code: 10 });
}

async function webhooks(url) {
  const { came, server, url: hook } = await receiver();
  const send = async (options) => {
    const answer = await fetch(`${url}/_sandbox/poster/send/webhook`, {
      method: "POST",
      body: JSON.stringify({ url: hook, ...options }),
    });
    assert.strictEqual((await answer.json()).status, 200);
    return came.pop();
  };
  const verified = (body, secret) => !(Webhook.verify(body, secret) instanceof Error);
  const closed = await send({ time: "1760000000" });
  assert.strictEqual(closed.verify, "38d4cf3993d89f2e0d184b30f9bd6a8c");
  for (const options of [
    {},
    { object: "incoming_order", object_id: 7, action: "added", data: { type: 1 } },
    { object: "client", object_id: 5, action: "changed", account: "кафе", data: '{"name":"Иван \\u0418"}' },
  ]) {
    const body = await send(options);
    assert(verified(body, SECRET), JSON.stringify(body));
    assert(!verified(body, "another"), "another secret");
    assert(!verified({ ...body, object_id: 8 }, SECRET), "changed on its way");
  }
  server.close();
}

async function main(url) {
  await reads(url);
  await webhooks(url);
  console.log("poster: fine");
}

main(process.argv[2].replace(/\/$/, "")).catch((error) => {
  console.error(error);
  process.exit(1);
});

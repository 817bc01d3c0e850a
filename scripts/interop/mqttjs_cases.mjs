// RingMQ against mqtt.js in Node, over WebSocket: prints a line per case, and `end`.
// Arguments: the folder that mqtt.js is installed in, the port for ws, the port for wss, the authority's certificate.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

import { assertEqual, end, runAll, within } from "./cases.mjs";

const [folder, wsPort, wssPort, ca] = process.argv.slice(2);
const mqtt = createRequire(`${folder}/`)("mqtt");

const WAYS = {
  ws: { url: `ws://localhost:${wsPort}/mqtt`, options: {} },
  wss: { url: `wss://localhost:${wssPort}/mqtt`, options: { ca: readFileSync(ca) } },
};

/** A connected client whose messages can be waited for in their order. */
async function connect(way, more = {}) {
  const { url, options } = WAYS[way];
  const client = mqtt.connect(url, { protocolVersion: 4, reconnectPeriod: 0, ...options, ...more });
  const [messages, waiting] = [[], []];
  client.on("message", (topic, payload, packet) => {
    const message = { topic, payload, qos: packet.qos, retain: packet.retain };
    waiting.length > 0 ? waiting.shift()(message) : messages.push(message);
  });
  client.take = () =>
    within(messages.length > 0 ? messages.shift() : new Promise((resolve) => waiting.push(resolve)), "a message");
  await within(
    new Promise((resolve, reject) => {
      client.once("connect", resolve);
      client.once("error", reject);
      client.once("close", () => reject(new Error("closed")));
    }),
    "the connection",
  );
  return client;
}

const CASES = {
  async "all QoS pairs"(way) {
    const publisher = await connect(way);
    for (const published of [0, 1, 2]) {
      for (const granted of [0, 1, 2]) {
        const subscriber = await connect(way);
        await within(subscriber.subscribeAsync("pair/#", { qos: granted }), "SUBACK");
        await within(publisher.publishAsync("pair/x", "hi", { qos: published }), "the acknowledgement");
        const message = await subscriber.take();
        assertEqual([message.qos, String(message.payload)], [Math.min(published, granted), "hi"], "message");
        await subscriber.endAsync();
      }
    }
    await publisher.endAsync();
  },

  async "payloads of all sizes, both ways"(way) {
    const client = await connect(way);
    await within(client.subscribeAsync("size/#", { qos: 1 }), "SUBACK");
    for (const size of [0, 1, 100, 125, 126, 4_096, 65_535, 65_536, 2_000_000]) {
      const payload = Buffer.alloc(size, (_, index) => index % 251).map((_, index) => (index * 7) % 251);
      await within(client.publishAsync(`size/${size}`, payload, { qos: 1 }), "PUBACK");
      const message = await client.take();
      assertEqual([message.topic, payload.equals(message.payload)], [`size/${size}`, true], "message");
    }
    await client.endAsync();
  },

  async "order under load"(way) {
    const [subscriber, publisher] = [await connect(way), await connect(way)];
    await within(subscriber.subscribeAsync("load", { qos: 2 }), "SUBACK");
    const sent = [];
    for (let n = 0; n < 1_000; n++) {
      sent.push(publisher.publishAsync("load", String(n), { qos: 1 }));
    }
    for (let n = 0; n < 1_000; n++) {
      assertEqual(String((await subscriber.take()).payload), String(n), "message");
    }
    await within(Promise.all(sent), "PUBACK");
    await subscriber.endAsync();
    await publisher.endAsync();
  },

  async "a Will after an abrupt end, retained"(way) {
    const watcher = await connect(way);
    await within(watcher.subscribeAsync(`will/${way}`, { qos: 1 }), "SUBACK");
    const will = { topic: `will/${way}`, payload: "gone", qos: 1, retain: true };
    const mortal = await connect(way, { will });
    mortal.stream.destroy();
    assertEqual(String((await watcher.take()).payload), "gone", "Will");
    await watcher.endAsync();
    const late = await connect(way);
    await within(late.subscribeAsync(`will/${way}`, { qos: 1 }), "SUBACK");
    const message = await late.take();
    assertEqual([String(message.payload), message.retain], ["gone", true], "retained");
    await late.endAsync();
  },

  async "a persistent session"(way) {
    const options = { clientId: `keeper-${way}`, clean: false };
    const keeper = await connect(way, options);
    await within(keeper.subscribeAsync(`stored/${way}`, { qos: 1 }), "SUBACK");
    await keeper.endAsync();
    const publisher = await connect(way);
    for (const n of ["1", "2", "3"]) {
      await within(publisher.publishAsync(`stored/${way}`, n, { qos: 1 }), "PUBACK");
    }
    await publisher.endAsync();
    const back = await connect(way, options);
    const got = [await back.take(), await back.take(), await back.take()];
    assertEqual(got.map((message) => String(message.payload)), ["1", "2", "3"], "messages");
    await back.endAsync();
  },
};

for (const way of Object.keys(WAYS)) await runAll(CASES, `${way}, `, way);
end();

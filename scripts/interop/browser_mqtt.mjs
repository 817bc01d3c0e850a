// Pages that speak MQTT over WebSocket with mqtt.js, in Chromium.
import { readFileSync } from "node:fs";
import { createServer } from "node:http";

import { browser, open, world } from "./browser.mjs";
import { assert, assertEqual, end, runAll } from "./cases.mjs";

const bundle = readFileSync(`${world.node}/node_modules/mqtt/dist/mqtt.min.js`);

// What a page has beside mqtt.js. Runs there, so it can use nothing from here.
const HELP = `
  const within = (promise, what) => Promise.race([promise, new Promise((_, no) => setTimeout(() => no(new Error(what + " did not happen in time")), 15000))]);
  async function link(url, more) {
    const client = mqtt.connect(url, { protocolVersion: 4, reconnectPeriod: 0, ...more });
    const messages = [], waiting = [];
    client.on("message", (topic, payload, packet) => {
      const message = { topic, payload: new Uint8Array(payload), text: new TextDecoder().decode(payload), qos: packet.qos, retain: packet.retain };
      waiting.length ? waiting.shift()(message) : messages.push(message);
    });
    client.take = () => within(messages.length ? messages.shift() : new Promise((yes) => waiting.push(yes)), "a message");
    await within(new Promise((yes, no) => { client.once("connect", yes); client.once("error", no); client.once("close", () => no(new Error("closed"))); }), "the connection");
    return client;
  }
`;

const server = createServer((request, response) => {
  const script = request.url === "/mqtt.js";
  response.setHeader("Content-Type", script ? "text/javascript" : "text/html");
  response.end(script ? bundle : `<!doctype html><title>test</title><script src="/mqtt.js"></script><script>${HELP}</script>`);
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const site = `http://127.0.0.1:${server.address().port}/`;

const WAYS = { ws: `ws://127.0.0.1:${world.ws}/mqtt`, wss: `wss://127.0.0.1:${world.wss}/mqtt` };

const CASES = {
  async "all QoS, between two pages"(url) {
    const [reader, writer] = [await open(site), await open(site)];
    await reader.evaluate(async (url) => {
      window.client = await link(url);
      await within(client.subscribeAsync("pages/#", { qos: 2 }), "SUBACK");
    }, url);
    await writer.evaluate(async (url) => {
      const client = await link(url);
      for (const qos of [0, 1, 2]) await within(client.publishAsync("pages/x", "q" + qos, { qos }), "the acknowledgement");
    }, url);
    const got = await reader.evaluate(async () => {
      const got = [];
      for (let n = 0; n < 3; n++) got.push(await client.take());
      return got.map(({ text, qos }) => [text, qos]);
    });
    assertEqual(got, [["q0", 0], ["q1", 1], ["q2", 2]], "messages");
    assertEqual([...reader.errors, ...writer.errors], [], "errors");
    await reader.context().close();
    await writer.context().close();
  },

  async "payloads of all sizes"(url) {
    const page = await open(site);
    const wrong = await page.evaluate(async (url) => {
      const client = await link(url);
      await within(client.subscribeAsync("size", { qos: 1 }), "SUBACK");
      for (const size of [0, 1, 125, 126, 65_535, 65_536, 1_000_000]) {
        const payload = new Uint8Array(size).map((_, at) => (at * 7) % 251);
        await within(client.publishAsync("size", payload, { qos: 1 }), "PUBACK");
        const { payload: got } = await client.take();
        if (got.length !== size || got.some((byte, at) => byte !== payload[at])) return size;
      }
      return null;
    }, url);
    assertEqual(wrong, null, "the first size that came back wrong");
    await page.context().close();
  },

  async "a Will when its page is closed"(url) {
    const [watcher, mortal] = [await open(site), await open(site)];
    await watcher.evaluate(async (url) => {
      window.client = await link(url);
      await within(client.subscribeAsync("will", { qos: 1 }), "SUBACK");
    }, url);
    await mortal.evaluate((url) => link(url, { will: { topic: "will", payload: "closed", qos: 1 } }).then(() => null), url);
    await mortal.close();
    assertEqual(await watcher.evaluate(async () => (await client.take()).text), "closed", "Will");
    await watcher.context().close();
  },

  async "a session that outlives its page"(url) {
    const page = await open(site);
    const options = { clientId: `keeper-${url.split(":")[0]}`, clean: false };
    await page.evaluate(async ([url, options]) => {
      const client = await link(url, options);
      await within(client.subscribeAsync("kept", { qos: 1 }), "SUBACK");
    }, [url, options]);
    await page.reload();
    const got = await page.evaluate(async ([url, options]) => {
      const writer = await link(url);
      for (const n of ["1", "2", "3"]) await within(writer.publishAsync("kept", n, { qos: 1 }), "PUBACK");
      const client = await link(url, options);
      return [await client.take(), await client.take(), await client.take()].map(({ text }) => text);
    }, [url, options]);
    assertEqual(got, ["1", "2", "3"], "messages");
    await page.context().close();
  },
};

for (const [way, url] of Object.entries(WAYS)) await runAll(CASES, `${way}, `, url);

await runAll({
  async "a page of another origin does not come in"() {
    const page = await open(site);
    const refused = await page.evaluate(
      (url) => link(url).then(() => "it came in", () => "refused"),
      `ws://127.0.0.1:${world.guarded}/guarded`,
    );
    assertEqual(refused, "refused", "outcome");
    assert(page.errors.some((error) => error.includes("403")), `Chromium says why: ${page.errors}`);
    await page.context().close();
  },
});
await browser.close();
end();

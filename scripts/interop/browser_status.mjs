// The status page and the API under load, in Chromium: what an operator sees, on a screen and on a phone, by day and by night.
import { spawn } from "node:child_process";
import { createConnection } from "node:net";

import { browser, open, world } from "./browser.mjs";
import { assert, assertEqual, end, runAll, until } from "./cases.mjs";

const site = `http://127.0.0.1:${world.admin}/`;
// What a client calls itself is never markup.
const NASTY = `<img src=x onerror="alert('run')"><b>slow</b>`;

const packet = (first, ...parts) => {
  const body = Buffer.concat(parts.map((part) => Buffer.from(part)));
  assert(body.length < 128, "one byte of length is enough here");
  return Buffer.concat([Buffer.from([first, body.length]), body]);
};
const text = (value) => Buffer.concat([Buffer.from([value.length >> 8, value.length & 255]), Buffer.from(value)]);

/** A subscriber to everything that reads nothing after its SUBACK. */
async function stuck(clientId) {
  const socket = createConnection(Number(world.mqtt), "127.0.0.1");
  socket.on("error", () => {});
  socket.write(packet(0x10, text("MQTT"), [4, 2, 0, 0], text(clientId)));
  socket.write(packet(0x82, [0, 1], text("#"), [1]));
  await new Promise((resolve) => socket.once("data", resolve));
  socket.pause();
  return socket;
}

const load = spawn(world.bench, ["pairs", "-p", world.mqtt, "-c", "20", "-q", "1", "-s", "2000", "--rate", "1500", "--warmup", "0",
  "--duration", "600", "--ahead", "0", "--quiet"], { stdio: "ignore" });
const page = await open(site, { viewport: { width: 1280, height: 900 } });
const shows = (selector) => page.locator(selector).innerText();
const tile = async (name) => {
  const tiles = await page.locator("#tiles div").allInnerTexts();
  return tiles.map((it) => it.split("\n")).find(([its]) => its.startsWith(name))?.[1] ?? "";
};
/** `1.5 k` as a number. */
const number = (shown) => {
  const [digits, unit] = shown.split(" ");
  return Number(digits) * { k: 1e3, M: 1e6, G: 1e9 }[unit ?? ""] || Number(digits);
};
const table = (id) =>
  page.locator(`#${id} tbody tr`).evaluateAll((rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent)));
const api = (path, method = "GET") =>
  page.evaluate(
    ([path, method, token]) =>
      fetch(path, { method, headers: { Authorization: `Bearer ${token}` } }).then(async (answer) => [answer.status, await answer.text()]),
    [path, method, world.token],
  );

let slow;
await runAll({
  async "asks for the token, and takes no other"() {
    await until(async () => (await shows("#state")) === "a token is needed", "the question");
    assert(!(await page.locator("#all").isVisible()), "nothing is shown before");
    await page.fill("#token", "not-the-token");
    await page.click("button");
    await until(async () => (await shows("#why")) === "not this one", "the refusal");
    await page.fill("#token", world.token);
    await page.click("button");
    await until(async () => (await shows("#state")) === "up", "the page");
  },

  async "shows the load"() {
    await until(async () => number(await tile("connections")) >= 40, "forty connections");
    const fast = async () => number(await tile("received / s")) > 1_000 && number(await tile("sent / s")) > 1_000;
    await until(fast, "its messages", 60_000);
    const shards = await table("shards");
    assertEqual(shards.length, world.shards, "shards");
    for (const row of shards) {
      assertEqual(row.at(-1), "up", "a shard's state");
      assert(number(row[1]) > 0 && number(row[4]) > 0, `each shard has its part: ${row}`);
    }
    const points = async () => (await page.locator("#in").getAttribute("points")).split(" ").length;
    await until(async () => (await points()) > 2, "the line's growing");
  },

  async "names the slowest consumer, in its own words"() {
    slow = await stuck(NASTY);
    await until(async () => (await table("slowest")).some(([client]) => client === NASTY), "its line", 60_000);
    await until(async () => (await table("slowest"))[0][0] === NASTY, "the first line", 60_000);
    assertEqual(await page.locator("main img, main td b").count(), 0, "elements made of names");
  },

  async "the API tells of that client and ends its connection"() {
    const path = `/api/clients/${encodeURIComponent(NASTY)}`;
    const [status, body] = await api(path);
    assertEqual([status, JSON.parse(body).client_id], [200, NASTY], "the client");
    assertEqual((await api(path, "DELETE"))[0], 204, "the end");
    await until(async () => (await api(path))[0] === 404, "its going");
    await until(async () => !(await table("slowest")).some(([client]) => client === NASTY), "the line's going");
    slow.destroy();
  },

  async "fits a phone, and a screen, by day and by night"() {
    const backs = new Set();
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      for (const [name, width, height] of [["screen", 1280, 900], ["phone", 360, 740]]) {
        await page.setViewportSize({ width, height });
        const [over, back, ink] = await page.evaluate(() => {
          const style = getComputedStyle(document.body);
          return [document.documentElement.scrollWidth - innerWidth, style.backgroundColor, style.color];
        });
        assert(over <= 0, `${colorScheme}, ${name}: wider than the window by ${over}`);
        backs.add(back);
        assert(contrast(back, ink) >= 7, `${colorScheme}: ${ink} on ${back}`);
        await page.screenshot({ path: `${world.out}/status-${world.shards}-${colorScheme}-${name}.png`, fullPage: true });
      }
    }
    assertEqual(backs.size, 2, "backgrounds");
    await page.setViewportSize({ width: 1280, height: 900 });
  },

  async "says when the broker does not answer, and when it does again"() {
    process.kill(world.pid, "SIGSTOP");
    try {
      await until(async () => (await shows("#state")).startsWith("no answer"), "the warning", 30_000);
    } finally {
      process.kill(world.pid, "SIGCONT");
    }
    await until(async () => (await shows("#state")) === "up", "the relief", 30_000);
  },

  async "had no errors, and its policy nothing to refuse"() {
    assertEqual(page.errors, [], "errors");
  },
});
load.kill("SIGKILL");
await browser.close();
end();

/** The contrast of two colours, as WCAG 2 defines it: 1 to 21. */
function contrast(...colours) {
  const light = colours.map((colour) => {
    const parts = colour.match(/\d+/g).slice(0, 3).map((part) => part / 255);
    const [red, green, blue] = parts.map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05;
  });
  return Math.max(...light) / Math.min(...light);
}

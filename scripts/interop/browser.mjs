// Headless Chromium, and what browser.sh started: world.json has the ports and paths.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

export const world = JSON.parse(readFileSync(process.argv[2]));
const { chromium } = createRequire(`${world.node}/`)("playwright-core");

// As root there is no sandbox to be had, and what is opened is ours.
export const browser = await chromium.launch({ executablePath: world.chromium, args: ["--no-sandbox", "--disable-gpu"] });

/** A page whose errors, and refusals by its policy, come to `errors`. */
export async function open(url, options = {}) {
  const context = await browser.newContext({ ignoreHTTPSErrors: true, ...options });
  const page = await context.newPage();
  page.errors = [];
  page.on("pageerror", (error) => page.errors.push(String(error)));
  page.on("dialog", (dialog) => {
    page.errors.push(`a dialog: ${dialog.message()}`);
    return dialog.dismiss();
  });
  page.on("console", (message) => {
    if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) page.errors.push(message.text());
  });
  await page.goto(url);
  return page;
}

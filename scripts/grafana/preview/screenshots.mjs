// Pictures of the page: all of it, as wide as terminals of about 80 and 200 columns, and the first screen for docs/.
//   node screenshots.mjs RECORDED OUT-DIR CHROMIUM
import { createServer } from "node:http";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { extname, join, normalize } from "node:path";

import { chromium } from "playwright-core";

const [recorded, out, executablePath] = process.argv.slice(2);
const PICTURES = [
  { name: "narrow", width: 800 },
  { name: "wide", width: 1900 },
  { name: "first-screen", width: 1400, height: 975 },
];
const TYPES = { ".woff2": "font/woff2", ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml" };
const FLAGS = [
  ...["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"],
  ...["--disable-component-update", "--disable-sync", "--hide-scrollbars"],
];

// Beside the page, what @grafana/ui looks for: icons, and the font.
const FONTS = "node_modules/@fontsource/inter/files";
const ELSEWHERE = [
  ["/build/img/", "node_modules/@grafana/ui/dist/public/img/"],
  ["/fonts/inter/Inter-Regular.woff2", `${FONTS}/inter-latin-400-normal.woff2`],
  ["/fonts/inter/Inter-Medium.woff2", `${FONTS}/inter-latin-500-normal.woff2`],
];

function fileOf(path) {
  const [asked, there] = ELSEWHERE.find(([start]) => path.startsWith(start)) ?? ["/", "page/"];
  return there + path.slice(asked.length);
}

const server = createServer(async ({ url }, response) => {
  const path = normalize(new URL(url, "http://localhost").pathname);
  const file = fileOf(path === "/" ? "/index.html" : path);
  try {
    const bytes = await readFile(file);
    response.writeHead(200, { "Content-Type": TYPES[extname(file)] ?? "application/octet-stream" });
    response.end(bytes);
  } catch {
    response.writeHead(404).end();
  }
});
await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
const { port } = server.address();

const profile = await mkdtemp(join(tmpdir(), "pollux-dashboard-"));
const browser = await chromium.launchPersistentContext(profile, { executablePath, args: FLAGS });
try {
  for (const { name, width, height } of PICTURES) {
    const page = await browser.newPage();
    page.on("pageerror", (error) => console.error(`${name}: ${error.message}`));
    page.on("response", (answer) => answer.ok() || console.error(`${name}: ${answer.status()} ${answer.url()}`));
    await page.setViewportSize({ width, height: 1000 });
    await page.goto(`http://127.0.0.1:${port}/?${new URLSearchParams({ recorded })}`);
    await page.waitForFunction(() => ["drawn", "failed"].includes(document.title), null, { timeout: 60_000 });
    if ((await page.title()) === "failed") {
      throw new Error(await page.textContent("body"));
    }
    // The whole of it at once: what is out of sight, lists do not draw.
    const whole = await page.evaluate(() => document.documentElement.scrollHeight);
    await page.setViewportSize({ width, height: whole });
    await page.waitForTimeout(1500);
    const clip = { x: 0, y: 0, width, height: height ?? whole };
    await page.screenshot({ path: join(out, `${name}.png`), clip });
    console.log(join(out, `${name}.png`));
    await page.close();
  }
} finally {
  await browser.close();
  server.close();
  await rm(profile, { recursive: true, force: true });
}

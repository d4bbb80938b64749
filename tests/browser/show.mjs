// Shows recordings in asciinema-player in headless Chromium and prints the text that stands on its screen.
//
//     node show.mjs FOLDER < jobs.json        jobs: [{"file": PATH, "times": [SECONDS, ...]}, ...]
//
// FOLDER is where `npm ci` has put node_modules (build/browser). Standard output: one JSON line a job, a list of screens,
// each a list of lines, for each of its times. The page and the recordings are served on a loopback port of their own.
import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { createRequire } from 'node:module';

const require = createRequire(path.resolve(process.argv[2], 'package.json'));
const { chromium } = require('playwright-core');
const bundle = path.join(path.resolve(process.argv[2]), 'node_modules/asciinema-player/dist/bundle');
const jobs = JSON.parse(fs.readFileSync(0, 'utf8'));
const page = '<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="/asciinema-player.css"><div id="player"></div>'
  + '<script src="/asciinema-player.min.js"></script>';

function serve(request, response) {
  const name = new URL(request.url, 'http://localhost').pathname.slice(1);
  const job = /^cast\/(\d+)$/.exec(name);
  const file = job ? jobs[job[1]].file : path.join(bundle, path.basename(name));
  if (name === '') return response.writeHead(200, { 'content-type': 'text/html' }).end(page);
  if (!fs.existsSync(file)) return response.writeHead(404).end();
  const type = { '.css': 'text/css', '.js': 'text/javascript' }[path.extname(file)] || 'text/plain; charset=utf-8';
  return response.writeHead(200, { 'content-type': type }).end(fs.readFileSync(file));
}

// Runs in the page: mounts the player, goes to each time, and reads the screen when it has settled.
async function screens([url, times]) {
  const player = window.AsciinemaPlayer.create(url, document.getElementById('player'), { preload: true, controls: false });
  const until = async (ready) => { while (!ready()) await new Promise(requestAnimationFrame); };
  let length;
  await until(() => { Promise.resolve(player.getDuration()).then((d) => { length = d; }); return length; });
  const shown = [];
  for (const time of times) {
    await player.seek(Math.min(time, length));
    for (let frame = 0; frame < 10; frame++) await new Promise(requestAnimationFrame);
    shown.push([...document.querySelectorAll('.ap-line')].map((line) => line.textContent));
  }
  player.dispose();
  return shown;
}

const server = http.createServer(serve);
await new Promise((ready) => { server.listen(0, '127.0.0.1', ready); });
const profile = fs.mkdtempSync(path.join(os.tmpdir(), 'ptyme-browser-'));
const browser = await chromium.launchPersistentContext(profile, {
  executablePath: '/usr/bin/chromium',
  headless: true,
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync'],
});
try {
  const tab = await browser.newPage();
  tab.setDefaultTimeout(30000);
  for (const [n, { times }] of jobs.entries()) {
    await tab.goto(`http://127.0.0.1:${server.address().port}/`);
    console.log(JSON.stringify(await tab.evaluate(screens, [`/cast/${n}`, times])));
  }
} finally {
  await browser.close();
  server.close();
  fs.rmSync(profile, { recursive: true, force: true });
}

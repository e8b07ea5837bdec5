// The timeline page in a real browser. PAGES is the folder with the pages, CHROMIUM the browser's program.

import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { after, before, test } from 'node:test';
import puppeteer from 'puppeteer-core';

const { PAGES, CHROMIUM } = process.env;
const ATTACK = '<script>alert(1)</script>';

let browser;
before(async () => {
  assert.ok(PAGES && CHROMIUM, 'PAGES and CHROMIUM are set');
  browser = await puppeteer.launch({ executablePath: CHROMIUM, args: ['--no-sandbox', '--disable-gpu'] });
});
after(() => browser?.close());

/** Opens a page, which must neither load anything nor report an error. */
async function open(name, { width = 1440, height = 900, scheme = 'light' } = {}) {
  const page = await browser.newPage();
  const problems = [];
  page.on('console', (message) => problems.push(`${message.type()}: ${message.text()}`));
  page.on('pageerror', (error) => problems.push(`error: ${error.message}`));
  page.on('dialog', (dialog) => { problems.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  page.on('request', (request) => { if (!request.url().endsWith(`/${name}`)) problems.push(`request: ${request.url()}`); });
  await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: scheme }]);
  await page.setViewport({ width, height });
  await page.goto(pathToFileURL(join(PAGES, name)).href);
  await rest(page);
  page.finish = async () => {
    assert.deepEqual(problems, []);
    await page.close();
  };
  return page;
}

/** Waits until lanes have their height and everything is drawn. */
const rest = (page) => page.evaluate(() => new Promise((resolve) => setTimeout(() => requestAnimationFrame(resolve), 320)));
const view = (page) => page.evaluate(() => [VIEW.from, VIEW.to]);
const text = (page, selector) => page.$eval(selector, (element) => element.textContent);
const shown = (page) => page.evaluate(() => PANES[0].shown.length);
const look = (page, name) => page.screenshot({ path: join(PAGES, `${name}.png`), fullPage: true });

test('the violation is on top, with a link to its moment', async () => {
  const page = await open('sabotaged.html');
  const violation = await page.evaluate(() => ({ ...RUNS[0].violations[0], run: undefined }));
  const summary = await text(page, '#summary');
  for (const part of [violation.name, violation.title, violation.finding, violation.meaning]) assert.ok(summary.includes(part), part);
  for (const part of ['seed', 'services', 'profile', 'commit', 'cargo sim ']) assert.ok(summary.includes(part), part);
  await page.click('#zoom-all');
  await page.click('#to-violation');
  const [from, to] = await view(page);
  assert.ok(from < violation.at && violation.at < to, 'the moment is shown');
  assert.ok(to - from <= 400000, 'and close');
  assert.ok((await text(page, '#details')).includes(violation.evidence));
  await look(page, 'sabotaged');
  await page.finish();
});

test('the history of the cells is a table whose rows jump to the timeline', async () => {
  const page = await open('sabotaged.html');
  const touches = await page.evaluate(() => RUNS[0].history.length);
  const rows = await page.$$('#history tr[data-touch]');
  assert.equal(rows.length, touches);
  assert.ok(touches >= 2);
  await page.click('#zoom-all');
  await rows[1].click();
  await rest(page);
  const at = await page.evaluate(() => RUNS[0].history[1].at);
  const [from, to] = await view(page);
  assert.ok(from < at && at < to);
  assert.equal(await page.$$eval('tr.chosen', (chosen) => chosen.map((row) => row.dataset.touch).join()).then((list) => list.includes('0-2')), true);
  assert.ok((await text(page, '#details')).includes('replicas have'));
  await page.keyboard.press('[');
  assert.equal(await page.evaluate(() => CHOSEN.touch.number), 1);
  await page.keyboard.press(']');
  assert.equal(await page.evaluate(() => CHOSEN.touch.number), 2);
  // Numbers are drawn, and can be clicked.
  const badge = await page.evaluate(() => PANES[0].hits.filter((hit) => hit.touch).map((hit) => hit.box)[0]);
  assert.ok(badge, 'a number is drawn');
  await page.finish();
});

test('lanes, kinds, partitions and sources filter what is shown', async () => {
  const page = await open('cassandra.html');
  const all = await shown(page);
  await page.evaluate(() => document.getElementById('filter-lanes').setAttribute('open', ''));
  await page.click('#filter-lanes input[data-key="worker 0"]');
  assert.ok((await shown(page)) < all);
  assert.equal(await page.evaluate(() => PANES[0].shown.some((item) => RUNS[0].lanes[item.lane]?.name === 'worker 0')), false);
  await page.click('#filter-lanes input[data-key="worker 0"]');
  assert.equal(await shown(page), all);
  await page.click('h1');
  assert.equal(await page.$eval('#filter-lanes', (menu) => menu.open), false, 'a click elsewhere closes it');
  await page.evaluate(() => document.getElementById('filter-kinds').setAttribute('open', ''));
  await page.click('#filter-kinds input[data-key="replica_write"]');
  assert.equal(await page.evaluate(() => PANES[0].shown.some((item) => item.kind === 'replica_write')), false);
  await page.click('#filter-kinds .all button');
  assert.equal(await shown(page), await page.evaluate(() => RUNS[0].items.length));
  await page.click('h1');
  await page.select('#filter-partition', '1');
  assert.equal(await page.evaluate(() => PANES[0].shown.some((item) => item.partitions && !item.partitions.includes(1))), false);
  await page.select('#filter-partition', '');
  const source = await page.$eval('#filter-source', (select) => select.options[1].value);
  await page.select('#filter-source', source);
  assert.equal(await page.evaluate((of) => PANES[0].shown.every((item) => !item.sources || item.sources.some((place) => RUNS[0].sources[place] === of)), source), true);
  await page.finish();
});

test('find selects one match after the other', async () => {
  const page = await open('cassandra.html');
  await page.keyboard.press('/');
  await page.keyboard.type('heartbeat');
  assert.equal(await text(page, '#found'), '0 found', 'what is not shown is not found');
  await page.$eval('#find', (find) => { find.value = ''; });
  await page.type('#find', 'write progress');
  const found = Number((await text(page, '#found')).split(' ')[0]);
  assert.ok(found > 2);
  await page.keyboard.press('Enter');
  const first = await page.evaluate(() => CHOSEN.item.index);
  assert.match(await text(page, '#found'), new RegExp(`of ${found}$`));
  await page.keyboard.press('Enter');
  assert.ok((await page.evaluate(() => CHOSEN.item.index)) !== first);
  await page.click('#find-previous');
  assert.equal(await page.evaluate(() => CHOSEN.item.index), first);
  const { start, from, to } = await page.evaluate(() => ({ start: CHOSEN.item.start, from: VIEW.from, to: VIEW.to }));
  assert.ok(from <= start && start <= to, 'the match is shown');
  assert.ok((await text(page, '#details')).includes('write progress'));
  await page.finish();
});

test('wheel, buttons, keys and dragging zoom and pan', async () => {
  const page = await open('sabotaged.html');
  const length = async () => { const [from, to] = await view(page); return to - from; };
  await page.keyboard.press('0');
  const all = await length();
  const box = await (await page.$('canvas.timeline')).boundingBox();
  await page.mouse.move(box.x + box.width / 2, box.y + 60);
  await page.mouse.wheel({ deltaY: -300 });
  await rest(page);
  assert.ok((await length()) < all * 0.7, 'the wheel zooms in');
  for (const [act, isLess] of [['+', true], ['-', false]]) {
    const was = await length();
    await page.keyboard.press(act);
    assert.equal((await length()) < was, isLess, act);
  }
  const was = await length();
  await page.click('#zoom-in');
  assert.ok(Math.abs((await length()) - was / 2) < 1);
  let [from] = await view(page);
  await page.keyboard.press('ArrowRight');
  assert.ok((await view(page))[0] > from, 'an arrow pans');
  [from] = await view(page);
  await page.mouse.move(box.x + box.width / 2, box.y + 60);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width / 2 + 120, box.y + 60, { steps: 4 });
  await page.mouse.up();
  assert.ok((await view(page))[0] < from, 'dragging to the right shows earlier times');
  for (let time = 0; time < 60; time += 1) await page.keyboard.press('+');
  assert.ok((await length()) >= 20, 'zooming ends');
  await page.keyboard.press('?');
  assert.equal(await page.$eval('#help', (dialog) => dialog.open), true);
  await page.keyboard.press('Escape');
  await page.keyboard.press('c');
  await rest(page);
  const at = await page.evaluate(() => RUNS[0].violations[0].at);
  const [first, last] = await view(page);
  assert.ok(first < at && at < last, 'c shows the cause');
  await page.finish();
});

test('a selected event has details, and leads to its counterpart', async () => {
  const page = await open('sabotaged.html');
  await page.evaluate(() => choose({ item: RUNS[0].items.find((item) => item.peer > item.index) }));
  await rest(page);
  const details = await text(page, '#details');
  assert.match(details, /sent[\d,.]+ ms, event \d/);
  const [request, response] = await page.evaluate(() => [CHOSEN.item.index, CHOSEN.item.peer]);
  await page.keyboard.press('r');
  assert.equal(await page.evaluate(() => CHOSEN.item.index), response);
  await page.click('#details .links button');
  assert.equal(await page.evaluate(() => CHOSEN.item.index), request);
  // A click on a box selects it.
  const place = await page.evaluate(() => {
    const hit = PANES[0].hits.find((one) => one.box && one.item && one.item.shape === 'box' && one.box[2] > 8 && one.box[0] > 150);
    const box = PANES[0].canvas.getBoundingClientRect();
    return hit && [hit.item.index, box.x + hit.box[0] + hit.box[2] / 2, box.y + hit.box[1] + 3];
  });
  if (place) {
    await page.evaluate(() => PANES[0].canvas.scrollIntoView({ block: 'start' }));
    const again = await page.evaluate((index) => {
      const hit = PANES[0].hits.find((one) => one.item && one.item.index === index && one.box);
      const box = PANES[0].canvas.getBoundingClientRect();
      return [box.x + hit.box[0] + hit.box[2] / 2, box.y + hit.box[1] + 3];
    }, place[0]);
    await page.mouse.click(...again);
    assert.equal(await page.evaluate(() => CHOSEN.item && CHOSEN.item.index), place[0]);
  }
  await page.finish();
});

test('whatever a record contains is shown as text', async () => {
  const page = await open('attack.html');
  assert.equal(await page.$$eval('script', (scripts) => scripts.length), 2, 'the data and the program');
  assert.equal(await page.$$eval('img, iframe', (elements) => elements.length), 0);
  await page.evaluate((attack) => choose({ item: RUNS[0].items.find((item) => JSON.stringify(item.details || []).includes(attack)) }), ATTACK);
  assert.ok((await text(page, '#details')).includes(ATTACK));
  assert.ok(await page.evaluate((attack) => RUNS[0].sources.some((source) => source.includes(attack)), ATTACK));
  assert.equal(await page.$$eval('script, img', (elements) => elements.length), 2);
  await page.finish();
});

test('two runs are shown in the same scale, with their first difference', async () => {
  const page = await open('two.html', { height: 1400 });
  assert.equal(await page.$$eval('canvas.timeline', (canvases) => canvases.length), 2);
  const apart = await page.evaluate(() => APART);
  assert.ok((await text(page, '.apart')).includes('The first difference'));
  await page.click('#to-difference');
  await rest(page);
  const [from, to] = await view(page);
  assert.ok(apart.at.every((at) => from < at && at < to), 'it is shown');
  const scales = await page.evaluate(() => PANES.map((pane) => pane.x(VIEW.from + 1000) - pane.x(VIEW.from)));
  assert.equal(scales[0], scales[1]);
  assert.equal(await page.evaluate(() => PANES.every((pane) => pane.labels.length > 0)), true, 'both have a flag');
  await look(page, 'two');
  await page.finish();
});

test('it fits narrow and wide windows, in both colour schemes', async () => {
  const papers = [];
  for (const [width, scheme] of [[360, 'light'], [768, 'dark'], [2200, 'dark']]) {
    const page = await open('sabotaged.html', { width, scheme });
    const { scroll, inner } = await page.evaluate(() => ({ scroll: document.documentElement.scrollWidth, inner: window.innerWidth }));
    assert.ok(scroll <= inner, `${width}: ${scroll} pixels wide`);
    const colour = await page.evaluate(() => {
      const { canvas } = PANES[0];
      return [...canvas.getContext('2d').getImageData(canvas.width - 4, canvas.height - 3, 1, 1).data].join();
    });
    papers.push(colour);
    await look(page, `${width}-${scheme}`);
    await page.finish();
  }
  assert.notEqual(papers[0], papers[1], 'the canvas has the colours of the scheme');
  assert.equal(papers[1], papers[2]);
});

test('twenty thousand events stay fluid', async () => {
  const html = readFileSync(join(PAGES, 'cassandra.html'), 'utf8');
  const [, json] = html.match(/<script type="application\/json" id="data">(.*?)<\/script>/s);
  const data = JSON.parse(json);
  const [run] = data.runs;
  const { items, columns } = run;
  const [start, end, peer] = ['start', 'end', 'peer'].map((column) => columns.indexOf(column));
  for (let shift = run.end; run.items.length < 20000; shift += run.end) {
    const later = (value, column) => (value === null || column === peer ? null : column === start || column === end ? value + shift : value);
    run.items = run.items.concat(items.map((row) => row.map(later)));
  }
  run.end = Math.max(...run.items.map((row) => row[end] ?? row[start]));
  writeFileSync(join(PAGES, 'large.html'), html.replace(json, () => JSON.stringify(data).replaceAll('<', '\\u003c')));
  const page = await open('large.html');
  // Of processor time, so that it does not matter what else the machine does.
  const client = await page.createCDPSession();
  await client.send('Performance.enable', { timeDomain: 'threadTicks' });
  const seconds = async () => {
    const { metrics } = await client.send('Performance.getMetrics');
    return metrics.find((metric) => metric.name === 'ScriptDuration').value;
  };
  const frame = async (act) => {
    const before = await seconds();
    for (let time = 0; time < 20; time += 1) await page.evaluate(act);
    return ((await seconds()) - before) * 50;
  };
  const whole = await frame(() => { showAll(); draw(PANES[0]); });
  await page.evaluate(() => showAt(RUNS[0].end / 3, 300000));
  const part = await frame(() => { pan(0.1); draw(PANES[0]); });
  console.log(`a frame of 20,000 events: ${whole.toFixed(1)} ms of the whole run, ${part.toFixed(1)} ms of a part`);
  assert.ok(whole > 0 && whole < 60 && part < 16, `${whole} ms, ${part} ms`);
  await page.finish();
});

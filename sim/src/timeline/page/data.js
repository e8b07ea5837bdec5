'use strict';

// The data, and what is derived from them once. A run is a timeline as `timeline/mod.rs` describes it; here it also gets:
// `kindOf` (descriptions by kind), `touches` (the history, numbered from 1), and for each item its `index`, `run` and `touches`.

const DATA = JSON.parse(document.getElementById('data').textContent);
const RUNS = DATA.runs;
const APART = DATA.difference;

/** An element with properties and children; texts are only ever set as texts. */
function element(name, properties, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith('on')) made.addEventListener(key.slice(2), value);
    else if (key === 'class') made.className = value;
    else if (key === 'text') made.textContent = value;
    else if (key === 'value' || key === 'checked' || key === 'open') made[key] = value;
    else made.setAttribute(key, value === true ? '' : value);
  }
  for (const child of children.flat()) {
    if (child !== null && child !== undefined && child !== false) made.append(child);
  }
  return made;
}

/** A time in simulated milliseconds. */
function inMs(micros, digits = 3) {
  return (micros / 1000).toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** Where an item ends, for drawing: what never ends lasts as long as the run. */
function endOf(item) {
  if (item.end !== undefined) return item.end;
  return item.shape === 'arrow' || item.shape === 'mark' ? item.start : item.run.end;
}

function laneName(run, lane) {
  return lane === undefined ? 'the whole run' : run.lanes[lane].name;
}

const OUTCOMES = {
  acknowledged: 'acknowledged',
  unknown: 'unknown: it may have been applied',
  refused: 'refused',
  failed: 'failed',
  lost: 'lost',
  late: 'too late',
  interrupted: 'the process ended before',
};

/** What an item is, in a line. */
function lineOf(item) {
  const run = item.run;
  const lanes = item.to === undefined ? laneName(run, item.lane) : `${laneName(run, item.lane)} → ${laneName(run, item.to)}`;
  const partitions = (item.partitions || []).length === 1 ? `, partition ${item.partitions[0]}` : '';
  const outcome = item.outcome && item.outcome !== 'acknowledged' ? `, ${OUTCOMES[item.outcome]}` : '';
  return `${lanes}: ${item.text}${partitions}${outcome}`;
}

/** Items are rows, with each text once: `packed.rs` describes them. */
function unpack({ columns, texts, items }) {
  const isText = new Set(['kind', 'outcome', 'text']);
  return items.map((row) => {
    const item = {};
    row.forEach((value, place) => {
      const column = columns[place];
      if (value === null) return;
      if (isText.has(column)) item[column] = texts[value];
      else if (column === 'details') item[column] = value.map((pair) => pair.map((text) => texts[text]));
      else item[column] = value;
    });
    return item;
  });
}

function prepare(run, number) {
  run.number = number;
  run.items = unpack(run);
  run.kindOf = Object.fromEntries(run.kinds.map((kind) => [kind.kind, kind]));
  run.items.forEach((item, index) => {
    const kind = run.kindOf[item.kind];
    Object.assign(item, { index, run, shape: kind.shape, colour: kind.colour, touches: [] });
    const details = (item.details || []).map(([name, text]) => `${name} ${text}`).join(' ');
    item.searched = `${lineOf(item)} ${kind.name} ${details}`.toLowerCase();
  });
  run.history.forEach((touch, place) => {
    touch.number = place + 1;
    touch.run = run;
    if (touch.item !== undefined && touch.item !== null) run.items[touch.item].touches.push(touch);
  });
  run.violations.forEach((violation) => { violation.run = run; });
  // Lanes that exchange messages with those below them have their line at the bottom.
  const below = run.lanes.map(() => 0);
  for (const item of run.items) {
    if (item.to === undefined) continue;
    below[item.lane] += Math.sign(item.to - item.lane);
    below[item.to] += Math.sign(item.lane - item.to);
  }
  const grouped = new Map();
  run.lanes.forEach((lane, number) => grouped.set(lane.group, (grouped.get(lane.group) || 0) + below[number]));
  const first = run.lanes.findIndex((lane) => grouped.get(lane.group) <= 0);
  run.above = run.lanes.map((lane, number) => number < first || first < 0);
  run.partitions = [...new Set(run.items.flatMap((item) => item.partitions || []))].sort((a, b) => a - b);
}

RUNS.forEach(prepare);

const SPAN = { from: 0, to: Math.max(1000, ...RUNS.map((run) => run.end)) };

/** What both runs have of something, without repetitions. */
function ofAll(of) {
  return [...new Set(RUNS.flatMap(of))];
}

/** The item of another run that is the same thing, if it has it: of the same lane, kind and text, the nth of them. */
function sameInOther(item) {
  const other = RUNS[1 - item.run.number];
  if (!other) return undefined;
  const isSame = (one) => one.kind === item.kind && one.lane === item.lane && one.to === item.to && one.text === item.text;
  const nth = item.run.items.filter((one) => one.index < item.index && isSame(one)).length;
  return other.items.filter(isSame)[nth];
}

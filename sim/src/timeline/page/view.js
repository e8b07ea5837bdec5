// What is shown: the part of the time, the filters, the selection; and the places of lanes and items that follow from them.

const VIEW = { from: 0, to: 1 };
const FILTER = {
  lanes: new Set(ofAll((run) => run.lanes.map((lane) => lane.name))),
  kinds: new Set(ofAll((run) => run.kinds.filter((kind) => kind.is_shown).map((kind) => kind.kind))),
  partition: '',
  source: '',
  onlyCells: false,
};
let CHOSEN = null; // { item } or { touch } or { violation }
let PANES = [];

const SHORTEST_SPAN = 20; // microseconds

/** Shows a part of the time, as far as there is one. */
function show(from, to) {
  const most = (SPAN.to - SPAN.from) * 1.06;
  let length = Math.min(Math.max(to - from, SHORTEST_SPAN), most);
  const middle = (from + to) / 2;
  const margin = length * 0.5;
  let start = middle - length / 2;
  start = Math.min(Math.max(start, SPAN.from - margin), SPAN.to + margin - length);
  VIEW.from = start;
  VIEW.to = start + length;
  redraw();
  settleSoon();
}

let settling = 0;

/** Lanes are as high as what is shown requires; they change when the view has come to rest. */
function settleSoon() {
  clearTimeout(settling);
  settling = setTimeout(settle, 220);
}

function settle() {
  clearTimeout(settling);
  for (const pane of PANES) {
    const before = pane.height;
    layOut(pane);
    if (pane.height !== before) resize(pane);
  }
  redraw();
}

function zoom(factor, at = (VIEW.from + VIEW.to) / 2) {
  show(at - (at - VIEW.from) * factor, at + (VIEW.to - at) * factor);
}

function pan(part) {
  const by = (VIEW.to - VIEW.from) * part;
  show(VIEW.from + by, VIEW.to + by);
}

function showAll() {
  const margin = (SPAN.to - SPAN.from) * 0.03;
  show(SPAN.from - margin, SPAN.to + margin);
  settle();
}

/** Shows a moment in the middle, not wider than this many microseconds. */
function showAt(at, widest = 400000) {
  const length = Math.min(VIEW.to - VIEW.from, widest);
  show(at - length / 2, at + length / 2);
  settle();
}

/** Makes sure that something is in the shown part, and large enough to be seen. */
function reveal(start, end) {
  const length = VIEW.to - VIEW.from;
  const isIn = start >= VIEW.from + length * 0.03 && start <= VIEW.to - length * 0.1;
  const isSmall = end > start && (end - start) / length < 0.012;
  if (isSmall) {
    const wider = Math.max((end - start) * 12, 20000);
    show(start - wider * 0.4, start + wider * 0.6);
  } else if (!isIn) {
    show(start - length * 0.4, start + length * 0.6);
  }
}

/** What explains the failure: from the first touch of the cells to the violation. */
function showCause() {
  const run = RUNS[0];
  const violation = run.violations[0];
  const times = run.history.map((touch) => touch.at).filter((at) => !violation || at <= violation.at);
  if (violation) times.push(violation.at);
  if (times.length === 0) return showAll();
  let [from, to] = [Math.min(...times), Math.max(...times)];
  const margin = Math.max((to - from) * 0.12, 15000);
  show(from - margin, to + margin * 1.3);
  return settle();
}

function isShown(item) {
  const { run } = item;
  const isOfCell = item.touches.length > 0;
  if (!FILTER.kinds.has(item.kind) && !(isOfCell && item.shape === 'arrow')) return false;
  if (item.lane !== undefined && !FILTER.lanes.has(run.lanes[item.lane].name)) return false;
  if (item.to !== undefined && !FILTER.lanes.has(run.lanes[item.to].name)) return false;
  const partitions = item.partitions || [];
  if (FILTER.partition !== '' && partitions.length > 0 && !partitions.includes(Number(FILTER.partition))) return false;
  const sources = item.sources || [];
  if (FILTER.source !== '' && sources.length > 0 && !sources.some((place) => run.sources[place] === FILTER.source)) return false;
  if (FILTER.onlyCells && (item.shape === 'arrow' || item.shape === 'box') && !isOfCell) return false;
  return true;
}

const SIZE = { ruler: 26, strip: 7, row: 18, bar: 15, marks: 17, lane: 30, gap: 9, pad: 5 };

/** Puts what may overlap in time into rows. */
function packed(items, least) {
  const rows = [];
  for (const item of items) {
    const end = Math.max(endOf(item), item.start + least);
    let row = rows.find((candidate) => candidate.end <= item.start);
    if (!row) rows.push((row = { items: [], end: 0 }));
    row.items.push(item);
    row.end = end;
  }
  return rows.map((row) => row.items);
}

/** What the filters leave of a run. */
function filterItems(pane) {
  const shown = pane.run.items.filter(isShown);
  pane.shown = shown;
  pane.moments = shown.filter((item) => item.lane === undefined && item.shape === 'mark');
  pane.arrows = shown.filter((item) => item.shape === 'arrow');
  // For each arrow the latest end of all before it: where a search backwards may stop.
  let latest = 0;
  pane.latest = pane.arrows.map((item) => (latest = Math.max(latest, endOf(item))));
}

/** The places of everything in a pane that is in view, or near it. Only times are not placed yet. */
function layOut(pane) {
  const { run, shown } = pane;
  const margin = (VIEW.to - VIEW.from) * 0.1;
  const near = shown.filter((item) => item.shape !== 'arrow' && item.start <= VIEW.to + margin && endOf(item) >= VIEW.from - margin);
  const lanes = run.lanes.map((lane, number) => ({ ...lane, number, isShown: FILTER.lanes.has(lane.name), rows: [] }));
  // Flags of vertical lines are between the ruler and the faults.
  let y = SIZE.ruler + (run.violations.length > 0 || APART ? 18 : 0);
  const least = (VIEW.to - VIEW.from) / 400;
  pane.wide = { y, rows: [] };
  for (const items of packed(near.filter((item) => item.lane === undefined && item.shape === 'bar'), least)) {
    pane.wide.rows.push({ y, height: SIZE.bar, items, shape: 'bar' });
    y += SIZE.bar + 2;
  }
  y += pane.wide.rows.length > 0 ? 6 : 2;
  pane.wide.height = y - pane.wide.y;
  let group = null;
  for (const lane of lanes.filter((one) => one.isShown)) {
    y += group !== null && group !== lane.group ? 8 : 0;
    group = lane.group;
    const own = near.filter((item) => item.lane === lane.number);
    const of = (shape) => own.filter((item) => item.shape === shape);
    lane.y = y;
    y += SIZE.pad;
    lane.strip = y + SIZE.strip / 2;
    lane.lives = of('line');
    lane.isAbove = run.above[lane.number];
    if (!lane.isAbove) y += SIZE.strip + 3;
    const bars = of('bar');
    const byPartition = new Map();
    bars.forEach((item) => {
      const key = item.kind + (item.partitions || []).join();
      if (!byPartition.has(key)) byPartition.set(key, []);
      byPartition.get(key).push(item);
    });
    const add = (items, height, shape) => {
      const row = { y, height, items, shape };
      lane.rows.push(row);
      items.forEach((item) => { if (item.touches.length > 0) item.row = row; });
      y += height + 2;
    };
    for (const [, items] of [...byPartition].sort((a, b) => (a[0] < b[0] ? -1 : 1))) {
      packed(items, 0).forEach((row) => add(row, SIZE.bar, 'bar'));
    }
    packed(of('box'), least).forEach((row) => add(row, SIZE.row, 'box'));
    if (of('mark').length > 0) add(of('mark'), SIZE.marks, 'mark');
    if (lane.isAbove) {
      lane.strip = y + 1 + SIZE.strip / 2;
      y += SIZE.strip + 3;
    }
    lane.height = Math.max(y - lane.y + SIZE.pad - 2, SIZE.lane);
    if (lane.rows.length === 0) lane.strip = lane.y + lane.height / 2;
    y = lane.y + lane.height + SIZE.gap;
  }
  pane.lanes = lanes;
  pane.height = y;
}

/** The height at which a message leaves or reaches a lane that it shares with `other`. */
function wire(lane, other) {
  if (lane.rows.length === 0) return lane.strip;
  if (lane.isAbove) return other.y > lane.y ? lane.strip : lane.y;
  return other.y > lane.y ? lane.y + lane.height : lane.strip;
}

/** The first place of a sorted list whose value is at least this. */
function lowerBound(length, valueOf, least) {
  let [low, high] = [0, length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (valueOf(middle) < least) low = middle + 1;
    else high = middle;
  }
  return low;
}

function applyFilter() {
  PANES.forEach(filterItems);
  PANES.forEach(layOut);
  PANES.forEach(resize);
  search();
  redraw();
}

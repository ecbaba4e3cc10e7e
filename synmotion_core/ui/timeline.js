// Runs in the time line's area (gr.HTML's js_on_load): moves the ends of the cut over the frames of the file.
// Everything is counted in frames: data-edges holds where each begins, and where the last one ends. What the server has drawn last
// is in the attributes; `live` is what a person is moving now, until the server has drawn that, too.
const PATIENCE = 6000, PAUSE = 400;
const line = () => element.querySelector('.sm-timeline');
let live = null, held = null, later = 0, drawn = '', cache = {text: '', edges: []};
function edgesOf(root) {
  if (cache.text !== root.dataset.edges) cache = {text: root.dataset.edges, edges: JSON.parse(root.dataset.edges)};
  return cache.edges;
}
const given = root => ({key: root.dataset.key, first: Number(root.dataset.first), stop: Number(root.dataset.stop)});
const same = (a, b) => a.key === b.key && a.first === b.first && a.stop === b.stop;
function now(root) {
  const known = given(root);
  if (live && (live.key !== known.key || (live.sent && (same(live, known) || performance.now() - live.sent > PATIENCE)))) live = null;
  return live || known;
}
function set(node, name, value) { if (node && node.getAttribute(name) !== value) node.setAttribute(name, value); }
function draw() {
  const root = line();
  if (root) {
    const edges = edgesOf(root), cut = now(root), total = edges[edges.length - 1] || 1;
    const from = 100 * edges[cut.first] / total, to = 100 * edges[cut.stop] / total;
    const before = root.querySelector('[data-before]'), after = root.querySelector('[data-after]');
    set(before, 'style', `left:0;width:${from}%`); set(after, 'style', `left:${to}%;right:0`);
    const grip = name => root.querySelector(`[data-grip=${name}]`);
    set(grip('start'), 'style', `left:${from}%`); set(grip('end'), 'style', `left:${to}%`);
    set(grip('move'), 'style', `left:${from}%;width:${to - from}%`);
    const count = cut.stop - cut.first, words = `${edges[cut.first]} to ${edges[cut.stop]} s · ${count} frame${count === 1 ? '' : 's'}`;
    for (const name of ['start', 'move', 'end']) {
      const at = name === 'end' ? cut.stop : cut.first;
      set(grip(name), 'aria-valuenow', String(at));
      set(grip(name), 'aria-valuetext', name === 'move' ? words : `${edges[at]} seconds`);
    }
    const out = root.querySelector('[data-now]');
    if (out && out.textContent !== words) out.textContent = words;
    root.classList.toggle('sm-moving', Boolean(live));
  }
}
function peek(seconds) {  // the player above shows the frame at the end that moves; null: it goes on
  document.dispatchEvent(new CustomEvent('sm-peek', {detail: {area: 'clip-inspect', seconds}}));
}
function move(root, grip, to) {
  const edges = edgesOf(root), last = edges.length - 1, cut = now(root), count = cut.stop - cut.first;
  const clamp = (x, low, high) => Math.min(Math.max(x, low), high);
  let {first, stop} = cut;
  if (grip === 'start') first = clamp(to, 0, stop - 1);
  else if (grip === 'end') stop = clamp(to, first + 1, last);
  else { first = clamp(to, 0, last - count); stop = first + count; }
  if (first === cut.first && stop === cut.stop) return;
  live = {key: cut.key, first, stop, sent: 0};
  draw();
  peek(grip === 'end' ? edges[stop - 1] : edges[first]);
}
function send() {
  clearTimeout(later); later = 0;
  const root = line();
  peek(null);
  if (!root || !live || live.sent) return;
  if (same(live, given(root))) { live = null; return; }
  const edges = edgesOf(root);
  live.sent = performance.now();
  trigger('release', {key: live.key, start_s: edges[live.first], end_s: live.stop === edges.length - 1 ? null : edges[live.stop]});
}
function frameAt(root, x) {
  const edges = edgesOf(root), box = root.querySelector('.sm-rail').getBoundingClientRect();
  const t = (x - box.left) / box.width * edges[edges.length - 1];
  let low = 0, high = edges.length - 1;
  while (high - low > 1) { const middle = (low + high) >> 1; if (edges[middle] <= t) low = middle; else high = middle; }
  return t - edges[low] < edges[high] - t ? low : high;
}
element.addEventListener('pointerdown', event => {
  const grip = event.target.closest('[data-grip]'), root = line();
  if (!grip || !root || event.button !== 0) return;
  event.preventDefault(); grip.focus({preventScroll: true}); grip.setPointerCapture(event.pointerId);
  const cut = now(root), name = grip.dataset.grip;
  held = {name, pointer: event.pointerId, offset: frameAt(root, event.clientX) - (name === 'end' ? cut.stop : cut.first)};
});
element.addEventListener('pointermove', event => {
  const root = line();
  if (held && root && event.pointerId === held.pointer) move(root, held.name, frameAt(root, event.clientX) - held.offset);
});
for (const end of ['pointerup', 'pointercancel']) element.addEventListener(end, event => {
  if (held && event.pointerId === held.pointer) { held = null; send(); }
});
element.addEventListener('keydown', event => {
  const grip = event.target.closest('[data-grip]'), root = line();
  if (!grip || !root || event.altKey || event.ctrlKey || event.metaKey) return;
  const cut = now(root), name = grip.dataset.grip, at = name === 'end' ? cut.stop : cut.first, last = edgesOf(root).length - 1;
  const far = event.shiftKey ? 10 : 1;
  const to = {ArrowLeft: at - far, ArrowDown: at - far, ArrowRight: at + far, ArrowUp: at + far, PageDown: at - 10, PageUp: at + 10, Home: 0, End: last}[event.key];
  if (to === undefined) return;
  event.preventDefault();
  move(root, name, to);
  clearTimeout(later); later = setTimeout(send, PAUSE);
});
element.addEventListener('focusout', () => { if (later) send(); });
function tick() {
  if (element.isConnected && element.offsetParent !== null) { draw(); requestAnimationFrame(tick); }
  else setTimeout(() => requestAnimationFrame(tick), 300);
}
requestAnimationFrame(tick);

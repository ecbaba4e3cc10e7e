// Runs in each of our HTML areas (gr.HTML's js_on_load): plays groups of videos in sync, loops single ones, marks the pressed card.
// The area's html changes by comparison, element by element: what is kept here is therefore in a WeakMap, not in attributes.
const DRIFT = 0.09;
const calm = window.matchMedia('(prefers-reduced-motion: reduce)').matches;
const memory = new WeakMap();
const begin = v => Number(v.dataset.start) || 0;
const span = v => Math.max(0.05, Math.min(Number(v.dataset.end) || Infinity, v.duration || 0) - begin(v));
const put = (v, t) => { v.currentTime = begin(v) + Math.min(Math.max(t, 0), span(v) - 0.001); };
const play = v => { if (v.paused) v.play().catch(() => {}); };
const halt = v => { if (!v.paused) v.pause(); };
function recall(player) {
  if (!memory.has(player)) memory.set(player, {playing: !calm, rate: 1, hold: 0, fresh: true});
  return memory.get(player);
}
function advance(player, now) {
  const s = recall(player);
  const all = [...player.querySelectorAll('video')].filter(v => !v.error);
  const videos = all.filter(v => v.readyState >= 2);
  const button = player.querySelector('[data-play]'), bar = player.querySelector('input[type=range]'), rate = player.querySelector('[data-rate]');
  if (button && button.textContent !== (s.playing ? '❚❚' : '▶')) button.textContent = s.playing ? '❚❚' : '▶';
  const label = s.rate === 1 ? '1×' : s.rate === 0.5 ? '½×' : '¼×';
  if (rate && rate.textContent !== label) rate.textContent = label;
  if (!videos.length) return;
  if (videos.length < all.length) { videos.forEach(halt); return; }
  if (s.fresh || s.count !== videos.length) { videos.forEach(v => put(v, 0)); s.fresh = false; s.count = videos.length; s.hold = 0; }
  const leader = videos.reduce((a, b) => span(b) > span(a) ? b : a);
  const t = leader.currentTime - begin(leader);
  if (bar && !s.scrubbing) bar.value = String(t / span(leader));
  videos.forEach(v => { if (v.playbackRate !== s.rate) v.playbackRate = s.rate; });
  if (peeked !== null) { videos.forEach(halt); return; }
  if (!s.playing) { videos.forEach(halt); return; }
  if (leader.ended || t >= span(leader) - 0.03) {
    if (!s.hold) { s.hold = now + 350; videos.forEach(halt); return; }
    if (now < s.hold) return;
    s.hold = 0; videos.forEach(v => put(v, 0)); videos.forEach(play); return;
  }
  s.hold = 0; play(leader);
  for (const v of videos) {
    if (v === leader) continue;
    const target = Math.min(t, span(v));
    if (target >= span(v) - 0.03) { halt(v); continue; }
    if (!v.seeking && Math.abs(v.currentTime - begin(v) - target) > DRIFT) put(v, target);
    play(v);
  }
}
function loop(video) {
  const box = video.getBoundingClientRect();
  const seen = box.width > 0 && box.bottom > 0 && box.top < window.innerHeight;
  if (calm || !seen) { halt(video); return; }
  if (video.readyState < 2) return;
  if (video.ended || video.currentTime < begin(video) - 0.05 || video.currentTime - begin(video) >= span(video) - 0.03) put(video, 0);
  play(video);
}
function crisp(video) {
  const mode = video.videoWidth && video.videoWidth <= 160 ? 'pixelated' : '';
  if (video.style.imageRendering !== mode) video.style.imageRendering = mode;
}
let picked = null, cards = 0;
function mark() {
  const all = element.querySelectorAll('[data-pick]:not(.sm-act, [data-many])');  // those do something, or say themselves what is chosen
  if (all.length !== cards) { picked = null; cards = all.length; }
  all.forEach(card => {
    const state = card.dataset.pick === picked ? 'true' : 'false';
    if (card.getAttribute('aria-pressed') !== state) card.setAttribute('aria-pressed', state);
  });
}
// A press counts by where it goes down and up: the list may be drawn anew in between, and no click would follow.
let pressed = null;
function choose(source) { picked = source; trigger('select', {source: picked}); }
element.addEventListener('pointerdown', event => {
  const pick = event.target.closest('[data-pick]');
  pressed = pick && event.button === 0 ? {source: pick.dataset.pick, x: event.clientX, y: event.clientY} : null;
});
// by the place, for the card may have been moved away under it
document.addEventListener('pointerup', event => {
  const was = pressed;
  pressed = null;
  if (was && element.isConnected && Math.hypot(event.clientX - was.x, event.clientY - was.y) < 10) choose(was.source);
});
document.addEventListener('pointercancel', () => { pressed = null; });
element.addEventListener('click', event => {
  const pick = event.target.closest('[data-pick]'), player = event.target.closest('[data-sync]');
  if (pick) { if (event.detail === 0) choose(pick.dataset.pick); return; }  // a key; presses are chosen above
  if (!player) return;
  const s = recall(player);
  if (event.target.closest('[data-play]') || event.target.tagName === 'VIDEO') s.playing = !s.playing;
  if (event.target.closest('[data-rate]')) s.rate = s.rate === 1 ? 0.5 : s.rate === 0.5 ? 0.25 : 1;
});
element.addEventListener('input', event => {
  const player = event.target.closest('[data-sync]');
  if (!player || event.target.type !== 'range') return;
  const s = recall(player); s.playing = false;
  const videos = [...player.querySelectorAll('video')].filter(v => v.readyState >= 1);
  if (!videos.length) return;
  const longest = Math.max(...videos.map(span));
  videos.forEach(v => { halt(v); put(v, Number(event.target.value) * longest); });
});
// The time line below shows the frame that an end of the cut is moved to.
let peeked = null;
document.addEventListener('sm-peek', event => {
  if (element.closest('#' + event.detail.area) === null) return;
  const before = peeked; peeked = event.detail.seconds;
  element.querySelectorAll('[data-sync] video').forEach(v => {
    if (peeked !== null) { halt(v); v.currentTime = peeked + 0.001; } else if (before !== null) put(v, 0);
  });
});
function tick(now) {
  const visible = element.isConnected && element.offsetParent !== null;
  if (visible) {
    mark();
    element.querySelectorAll('video').forEach(crisp);
    element.querySelectorAll('[data-sync]').forEach(p => advance(p, now));
    element.querySelectorAll('video[data-loop]').forEach(loop);
    requestAnimationFrame(tick);
  } else {
    element.querySelectorAll('video').forEach(halt);
    setTimeout(() => requestAnimationFrame(tick), 300);
  }
}
requestAnimationFrame(tick);

// Runs in the recorder's area (gr.HTML's js_on_load): camera, countdown, recording, and the file into the page's own upload field.
// Gradio's recorder packs what has come when it is stopped, before the browser's encoder has given its last pieces
// (1.3 s were missing on a busy machine); here the file is made when the browser says that all of it is there.
const KINDS = ['video/webm;codecs=vp8', 'video/webm', 'video/mp4'], MOST_S = 59, RATE = 8e6;  // a clip lasts 60 s at most (clips/ffmpeg.py)
const part = name => element.querySelector(`[data-${name}]`);
const screen = part('screen'), said = part('said'), on = part('on'), off = part('off'), go = part('go'), wait = part('wait'), count = part('count'), time = part('time');
let stream = null, recorder = null, pieces = [], timer = 0, began = 0, starting = false, made = [], later = 0;
function show(words, error) { said.textContent = words; said.classList.toggle('sm-bad', Boolean(error)); }
function lay() {  // which buttons there are
  const live = Boolean(stream);
  on.hidden = live; on.disabled = starting; off.hidden = go.hidden = !live; screen.hidden = !live;
  part('countdown').hidden = !live;
  off.disabled = wait.disabled = Boolean(recorder || timer);
  go.textContent = recorder ? 'Stop' : timer ? 'Cancel' : 'Record';
  go.classList.toggle('sm-recording', Boolean(recorder));
}
function release() {
  clearInterval(timer); timer = 0; count.textContent = '';
  if (stream) for (const track of stream.getTracks()) track.stop();
  stream = null; screen.srcObject = null;
  lay();
}
async function open() {
  if (!navigator.mediaDevices || typeof MediaRecorder === 'undefined') {
    show('This browser gives its camera to this computer (127.0.0.1) and to https pages only.', true);
    return;
  }
  starting = true; lay();
  try {
    const video = {width: {ideal: 1280}, height: {ideal: 720}};
    stream = await navigator.mediaDevices.getUserMedia({audio: false, video});
    screen.srcObject = stream;
    await screen.play();
    for (const track of stream.getTracks()) track.addEventListener('ended', () => { finish(); release(); show('The camera has gone.', true); });
    show('Step back until the whole body is in the picture.');
  } catch (error) {
    release();
    const words = {NotAllowedError: 'The browser was not allowed to use the camera: allow it in the address bar.',
                   NotFoundError: 'No camera was found.', NotReadableError: 'Another program is using the camera.'};
    show(words[error.name] || `The camera did not open: ${error.message}`, true);
  }
  starting = false; lay();
}
function begin() {
  const kind = KINDS.find(one => MediaRecorder.isTypeSupported(one));
  if (!kind) { show('This browser records neither WebM nor MP4.', true); return; }
  pieces = [];
  recorder = new MediaRecorder(stream, {mimeType: kind, videoBitsPerSecond: RATE});
  recorder.addEventListener('dataavailable', event => { if (event.data.size) pieces.push(event.data); });
  recorder.addEventListener('stop', () => hand_over(kind.split(';')[0]));
  recorder.addEventListener('error', event => show(`The recording broke: ${event.error ? event.error.message : 'unknown'}`, true));
  recorder.start(); began = performance.now();
  show('Recording');
  timer = setInterval(() => {
    const seconds = (performance.now() - began) / 1000;
    time.textContent = `${seconds.toFixed(1)} s`;
    if (seconds >= MOST_S) finish();
  }, 100);
  lay();
}
function finish() {
  if (!recorder || recorder.state === 'inactive') return;
  clearInterval(timer); timer = 0;
  show('Saving …');
  recorder.stop();
}
function hand_over(kind) {
  const data = new Blob(pieces, {type: kind}), long = performance.now() - began >= 1000 * MOST_S;
  recorder = null; pieces = []; time.textContent = '';
  lay();
  if (!data.size) { show('Nothing was recorded: try again.', true); return; }
  const said = long ? `It stopped after ${MOST_S} s, the longest that it records.` : 'Recorded. Record again, or turn the camera off.';
  made.push({file: new File([data], `camera.${kind.slice(6)}`, {type: kind}), said});
  if (!later) deliver();
}
function deliver() {  // one by one into the upload field beside, which Gradio watches over and takes away while it is busy with a file
  const field = document.querySelector('#clips-recorded input[type=file]');
  later = 0;
  if (field && !field.files.length) {
    const {file, said} = made.shift(), box = new DataTransfer();
    box.items.add(file);
    field.files = box.files;
    field.dispatchEvent(new Event('change', {bubbles: true}));
    if (!recorder && !timer) show(said);
  }
  if (made.length) later = setTimeout(deliver, 200);
}
function press() {
  if (recorder) return finish();
  if (timer) { clearInterval(timer); timer = 0; count.textContent = ''; show(''); return lay(); }
  let left = Number(wait.value);
  if (!left) return begin();
  count.textContent = String(left); show(`Recording begins in ${left} s`);
  timer = setInterval(() => {
    left -= 1;
    count.textContent = left > 0 ? String(left) : '';
    if (left > 0) return;
    clearInterval(timer); timer = 0;
    begin();
  }, 1000);
  lay();
}
on.addEventListener('click', open);
off.addEventListener('click', () => { release(); show(''); });
go.addEventListener('click', press);
// who goes to another tab, or folds this away, leaves no camera on; a recording goes on
setInterval(() => { if (stream && !recorder && !timer && (!element.isConnected || element.offsetParent === null)) { release(); show(''); } }, 1000);
lay();

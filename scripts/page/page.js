'use strict';

const byId = id => document.getElementById(id);
const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};
const pretty = name => {
  const text = name.replace(/_/g, ' ').toLowerCase();
  return text.charAt(0).toUpperCase() + text.slice(1);
};
const signed = value => value === 0 ? '0' : (value > 0 ? '+' : '−') + String(Math.abs(value));

// ------------------------------------------------------------------------------- the server

async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    throw new Error('The server does not answer. Is it still running?');
  }
  if (answer.ok) return answer;
  let text = await answer.text();
  try { text = JSON.parse(text).error || text; } catch (error) { /* no JSON */ }
  if (answer.status === 503) text = 'The server is busy: ' + text;
  const failure = new Error(text.trim());
  failure.status = answer.status;
  throw failure;
}

const post = (path, wish) => ask(path, {
  method: 'POST', headers: {'content-type': 'application/json'}, body: JSON.stringify(wish)});

const say = text => { byId('status').textContent = text; };

function complain(error) {
  byId('error').firstChild.textContent = error.message || String(error);
  byId('error').hidden = false;
}

async function working(text, action) {
  byId('busy').firstChild.textContent = text;
  const timer = setTimeout(() => { byId('busy').hidden = false; }, 250);
  try {
    byId('error').hidden = true;
    return await action();
  } catch (error) {
    complain(error);
    return undefined;
  } finally {
    clearTimeout(timer);
    byId('busy').hidden = true;
  }
}

// ------------------------------------------------------------------------------- state

const state = {
  about: null, photo: null,
  values: {}, faces: [], labels: [],          // what is edited, and how
  kind: 'photo', view: 'result', compare: 0, holdBefore: false,
  before: null,                               // canvas of the view before the edit
  patch: null,                                // {image, left, top} of the edit
  gates: null, gateMode: 'edit', amount: 1,
  past: [], future: []};

const isEdited = () => Object.values(state.values).some(Boolean);
const snapshot = () => JSON.stringify(
  {values: state.values, faces: state.faces, labels: state.labels});
const wish = () => ({
  faces: state.faces, kind: state.kind,
  values: Object.fromEntries(Object.entries(state.values).filter(([, value]) => value)),
  ...(state.about.label === 'target' ? {labels: state.labels} : {})});
const address = name => `api/photos/${state.photo.id}/${name}`;

function remember(before) {
  if (before === snapshot()) return;
  state.past.push(before);
  if (state.past.length > 200) state.past.shift();
  state.future = [];
  showHistory();
}

function travel(from, to) {
  if (!from.length) return;
  to.push(snapshot());
  const {values, faces, labels} = JSON.parse(from.pop());
  state.values = values;
  choose(faces, false);
  tick(labels);
  showSliders();
  showHistory();
  edit();
  if (byId('strip-part').open) fetchStrip();
}

function showHistory() {
  byId('undo').disabled = !state.past.length;
  byId('redo').disabled = !state.future.length;
  byId('reset').disabled = !isEdited();
}

// ------------------------------------------------------------------------------- edits
// One request is under way at most; when it is back, the newest wish follows.

let wanted = null, asking = false;

function edit(since = performance.now()) {
  if (!state.photo) return;
  showHistory();
  showCommand();
  wanted = {since, photo: state.photo.id};
  if (!asking) serve();
}

async function serve() {
  asking = true;
  try {
    while (wanted) {
      const {since, photo} = wanted;
      wanted = null;
      const request = wish();
      if (!request.faces.length) { state.patch = null; draw(); continue; }
      const answer = await post(address('edit'), request);
      const [left, top] = answer.headers.get('x-place').split(',').map(Number);
      const image = await createImageBitmap(await answer.blob());
      if (!state.photo || state.photo.id !== photo || state.kind !== request.kind) continue;
      state.patch = {image, left, top, values: request.values, faces: request.faces};
      draw();
      const time = performance.now() - since;
      byId('milliseconds').textContent = `${Math.round(time)} ms`;
      byId('milliseconds').dataset.time = time;
      if (state.view === 'gates' && !wanted) await fetchGates();
    }
    say('The picture is up to date.');
  } catch (error) {
    wanted = null;
    fail(error);
  } finally {
    asking = false;
    document.body.dataset.edits = Number(document.body.dataset.edits || 0) + 1;
    if (wanted) serve();
    else if (byId('recipe-part').open) fetchRecipe();
  }
}

function fail(error) {
  complain(error);
  if (error.status === 404 && state.photo) {
    state.photo = null;
    byId('studio').hidden = true;
    byId('start').hidden = false;
  }
}

async function fetchBefore() {
  const query = new URLSearchParams({kind: state.kind, faces: state.faces.join(',') || '0'});
  const answer = await ask(address('view') + '?' + query);
  const image = await createImageBitmap(await answer.blob());
  const canvas = make('canvas', {width: image.width, height: image.height});
  canvas.getContext('2d').drawImage(image, 0, 0);
  state.before = canvas;
  state.patch = null;
  byId('canvas').width = image.width;
  byId('canvas').height = image.height;
  byId('viewer').style.setProperty('--ratio', image.width / image.height);
  draw();
}

// ------------------------------------------------------------------------------- drawing

// A scale from black over violet and orange to white, so that brightness alone can be read, too.
const SCALE = [[0, 0, 4], [51, 16, 104], [130, 36, 125], [205, 66, 92], [248, 135, 65],
  [252, 206, 120], [252, 255, 230]];
const DIVERGING = [[33, 102, 172], [103, 169, 207], [209, 229, 240], [247, 247, 247],
  [253, 219, 199], [239, 138, 98], [178, 24, 43]];
const table = colours => Array.from({length: 256}, (_, i) => {
  const place = i / 255 * (colours.length - 1), k = Math.min(colours.length - 2, Math.floor(place));
  return [0, 1, 2].map(c => Math.round(
    colours[k][c] + (place - k) * (colours[k + 1][c] - colours[k][c])));
});
const HEAT = table(SCALE), SIGNED = table(DIVERGING);

function after() {
  const {before, patch} = state;
  const canvas = make('canvas', {width: before.width, height: before.height});
  const context = canvas.getContext('2d', {willReadFrequently: true});
  context.drawImage(before, 0, 0);
  if (patch) context.drawImage(patch.image, patch.left, patch.top);
  return canvas;
}

function differenceOf(before, edited) {
  const {width, height} = before;
  const read = canvas => canvas.getContext('2d').getImageData(0, 0, width, height).data;
  const a = read(before), b = read(edited), levels = new Uint8Array(width * height);
  let most = 0;
  for (let i = 0; i < levels.length; i++) {
    const level = Math.max(Math.abs(a[4 * i] - b[4 * i]), Math.abs(a[4 * i + 1] - b[4 * i + 1]),
      Math.abs(a[4 * i + 2] - b[4 * i + 2]));
    levels[i] = level;
    if (level > most) most = level;
  }
  return {levels, most};
}

function paint(canvas, width, height, value, colours) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext('2d'), image = context.createImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    const colour = colours[Math.max(0, Math.min(255, Math.round(255 * value(i))))];
    image.data.set([...colour, 255], 4 * i);
  }
  context.putImageData(image, 0, 0);
}

function draw() {
  if (!state.before) return;
  const canvas = byId('canvas'), context = canvas.getContext('2d');
  const {width, height} = canvas, compare = state.holdBefore ? 100 : state.compare;
  let shown = after();
  const isDifference = state.view === 'difference';
  byId('legend').hidden = !isDifference;
  if (isDifference) {
    const {levels, most} = differenceOf(state.before, shown), full = Math.max(most, 16);
    shown = make('canvas');
    paint(shown, width, height, i => levels[i] / full, HEAT);
    paint(byId('scale'), 160, 10, i => (i % 160) / 159, HEAT);
    byId('legend-text').textContent = most
      ? `0 to ${full} of 255 levels; the largest change is ${most}` : 'nothing is changed';
  }
  context.clearRect(0, 0, width, height);
  context.drawImage(shown, 0, 0);
  const cut = Math.round(width * compare / 100);
  if (cut) context.drawImage(state.before, 0, 0, cut, height, 0, 0, cut, height);
  byId('divider').style.left = `clamp(16px, ${compare}%, calc(100% - 16px))`;
  byId('divider').classList.toggle('resting', compare === 0 || compare === 100);
  document.querySelector('.corner.left').hidden = compare < 12;
  document.querySelector('.corner.right').hidden = compare > 88;
  canvas.setAttribute('aria-label', describeView());
}

function describeView() {
  const done = Object.entries(state.values).filter(([, value]) => value)
    .map(([name, value]) => `${pretty(name)} ${signed(value)}`).join(', ');
  const what = state.kind === 'photo' ? 'The photo' : 'The face';
  return (state.view === 'difference' ? 'What changes: ' : '') + what +
    (done ? `, edited: ${done}` : ', not edited');
}

// ------------------------------------------------------------------------------- gates

async function fetchGates() {
  if (!state.photo || !state.faces.length) return;
  const answer = await (await post(address('gates'), {...wish(), faces: [state.faces[0]]})).json();
  state.gates = answer.levels.map(level => {
    const values = {size: level.size};
    for (const name of ['reset', 'update', 'reset_before', 'update_before']) {
      const bytes = Uint8Array.from(atob(level[name]), letter => letter.charCodeAt(0));
      values[name] = new Float32Array(bytes.buffer);
    }
    return values;
  });
  drawGates();
}

const mean = values => values.reduce((sum, value) => sum + value, 0) / values.length;

function drawGates() {
  const place = byId('gate-maps');
  place.replaceChildren();
  if (!state.gates) return;
  if (!state.gates.length) {
    place.append(make('p', {className: 'hint', textContent: 'This model has no such units.'}));
    return;
  }
  const {gates} = state, names = ['reset', 'update'];
  place.style.setProperty('--levels', gates.length);
  place.append(make('span'), ...gates.map((level, number) => make('div', {className: 'level'},
    make('b', {textContent: `STU ${gates.length - number}`}), make('br'),
    make('span', {textContent: `${level.size}×${level.size}`}))));
  for (const gate of names) {
    place.append(make('span', {className: 'head', textContent: gate}));
    gates.forEach((level, number) => place.append(gateMap(gate, level, gates.length - number)));
  }
}

function gateMap(gate, level, number) {
  const {size} = level, values = level[gate], before = level[gate + '_before'];
  const canvas = make('canvas');
  let text;
  if (state.gateMode === 'edit') {
    paint(canvas, size, size, i => values[i], HEAT);
    text = `mean ${mean(values).toFixed(3)}`;
  } else {
    const change = values.map((value, i) => value - before[i]);
    const most = Math.max(.01, ...change.map(Math.abs));
    paint(canvas, size, size, i => .5 + change[i] / most / 2, SIGNED);
    text = `${signed(Number(mean(change).toFixed(3)))}, up to ±${most.toFixed(2)}`;
  }
  canvas.setAttribute('role', 'img');
  canvas.setAttribute('aria-label', `${gate} gate of STU ${number}: ${text}`);
  return make('div', {}, canvas, make('div', {className: 'mean', textContent: text}));
}

// ------------------------------------------------------------------------------- sliders

function buildSliders() {
  byId('sliders').replaceChildren(...state.about.attributes.map(name => {
    const id = 'slider-' + name;
    const input = make('input', {type: 'range', id, min: -2, max: 2, step: .05, value: 0});
    input.dataset.name = name;
    const row = make('div', {className: 'slider'},
      make('label', {htmlFor: id, textContent: pretty(name)}), make('output', {htmlFor: id}),
      make('div', {className: 'groove'}, make('i'), make('i'), make('i'), input));
    let before = null;
    input.addEventListener('input', () => {
      if (before === null) before = snapshot();
      // A hand does not hit 0 by itself, the keyboard does.
      const near = input.matches(':active') && Math.abs(input.value) < .075;
      setValue(name, near ? 0 : Number(input.value));
      edit();
    });
    input.addEventListener('change', () => {
      if (before !== null) remember(before);
      before = null;
      showSliders();
    });
    const zero = () => {
      const now = snapshot();
      before = null;
      setValue(name, 0);
      remember(now);
      showSliders();
      edit();
    };
    row.addEventListener('dblclick', zero);
    input.addEventListener('keydown', event => {
      if (['0', 'Delete', 'Backspace'].includes(event.key)) { event.preventDefault(); zero(); }
    });
    return row;
  }));
  showSliders();
}

function setValue(name, value) {
  if (value) state.values[name] = value; else delete state.values[name];
  showSlider(byId('slider-' + name));
}

function showSlider(input) {
  const value = state.values[input.dataset.name] || 0, row = input.closest('.slider');
  // While it is dragged it stays where the hand is.
  if (document.activeElement !== input || !input.matches(':active')) input.value = value;
  row.querySelector('output').textContent = signed(value);
  row.classList.toggle('set', value !== 0);
  input.setAttribute('aria-valuetext', value === 0 ? '0, untouched' :
    `${signed(value)}${Math.abs(value) > 1 ? ', more than training showed' : ''}`);
  fillTrack(input, 0, Math.max(-2, Math.min(2, value)));
}

function fillTrack(input, from, to) {
  const share = value => (value - input.min) / (input.max - input.min);
  // The thumb is 20 px wide, so that its middle is not at the track's ends.
  const at = value => `calc(10px + (100% - 20px) * ${share(value).toFixed(4)})`;
  const colour = to < from ? 'var(--minus)' : 'var(--accent)';
  const [low, high] = to < from ? [to, from] : [from, to];
  input.style.setProperty('--fill', low === high ? 'none' :
    `linear-gradient(90deg, transparent ${at(low)}, ${colour} ${at(low)}, ${colour} ${at(high)}, transparent ${at(high)})`);
  input.style.setProperty('--thumb', low === high ? 'var(--soft)' : colour);
}

const showSliders = () => document.querySelectorAll('#sliders input').forEach(showSlider);

function showCommand() {
  const values = Object.entries(state.values).filter(([, value]) => value)
    .map(([name, value]) => `${name}=${value}`).join(' ');
  const quoted = text => /^[\w./-]+$/.test(text) ? text : `'${text.replace(/'/g, "'\\''")}'`;
  const isWhole = state.faces[0] === 0;
  byId('command').textContent = `python scripts/edit_photos.py ${quoted(state.photo.name)} ` +
    `--experiment_name ${quoted(state.about.name)}` + (isWhole ? ' --no_align' : state.faces.length === 1 ?
    ` --face ${state.faces[0]}` : '') + (values ? ` --set ${values}` : ' --dry_run') +
    (state.about.label === 'target' ? ` --labels ${state.labels.join(' ') || 'none'}` : '');
}

// ------------------------------------------------------------------------------- faces

function choose(faces, byUser = true) {
  const before = snapshot();
  const same = state.faces.join() === faces.join();
  state.faces = faces;
  showFaces();
  if (byUser && !same) {
    remember(before);
    refresh();
  } else if (!same && state.kind === 'face') {
    refresh();
  }
}

function showFaces() {
  const {photo, faces} = state;
  for (const button of document.querySelectorAll('#boxes button, #face-choice button')) {
    const numbers = JSON.parse(button.dataset.faces);
    button.setAttribute('aria-pressed', button.dataset.all ? faces.join() === numbers.join() :
      numbers.every(number => faces.includes(number)));
  }
  byId('boxes').hidden = state.kind !== 'photo' || state.view === 'difference' ||
    photo.faces.length < 2;    // nothing to choose
  const chosen = photo.faces.filter(face => faces.includes(face.number));
  const count = photo.faces.length;
  byId('faces-note').textContent = faces[0] === 0 ? 'The whole picture is taken for a face.' :
    (count === 1 ? 'One face found.' : count ? `${count} faces found; choose one in the photo.` :
      photo.trouble) + (chosen.some(face => face.profile) ?
      ' It is seen from the side, as few in training are.' : '');
}

function buildFaces() {
  const {photo} = state, boxes = [], choices = [];
  const button = (text, numbers, all) => {
    const element = make('button', {textContent: text});
    element.dataset.faces = JSON.stringify(numbers);
    if (all) element.dataset.all = 1;
    element.addEventListener('click', () => choose(numbers));
    return element;
  };
  for (const face of photo.faces) {
    const box = button('', [face.number]);
    box.append(make('span', {textContent: face.number}));
    box.setAttribute('aria-label', `Face ${face.number} of ${photo.faces.length}`);
    const [left, top, right, bottom] = face.box;
    Object.assign(box.style, {
      left: `${100 * left / photo.width}%`, top: `${100 * top / photo.height}%`,
      width: `${100 * (right - left) / photo.width}%`,
      height: `${100 * (bottom - top) / photo.height}%`});
    boxes.push(box);
    if (photo.faces.length > 1 || photo.whole) choices.push(button(`Face ${face.number}`, [face.number], true));
  }
  if (photo.faces.length > 1)
    choices.push(button('All', photo.faces.map(face => face.number), true));
  if (photo.whole) choices.push(button('Whole picture', [0], true));
  byId('boxes').replaceChildren(...boxes);
  byId('face-choice').replaceChildren(...choices.length > 1 ? choices : []);
}

async function refresh() {
  if (!state.photo) return;
  try {
    await fetchBefore();
    edit();
    if (byId('strip-part').open) fetchStrip();
  } catch (error) { fail(error); }
}

// ------------------------------------------------------------------------------- photos

async function take(description) {
  const old = state.photo;
  if (old) post(`api/photos/${old.id}/forget`, {}).catch(() => {});
  Object.assign(state, {photo: description, before: null, patch: null, gates: null, past: [],
    future: [], compare: 0, values: {}});
  const {faces, whole, aligned} = description;
  state.faces = aligned || (!faces.length && whole) ? [0] : faces.length ? [faces[0].number] : [];
  // One small face is shown closer at once; several have to be chosen from.
  const isSmall = faces.length === 1 && state.faces[0] &&
    faces[0].box[3] - faces[0].box[1] < description.height / 5;
  setRadio('kinds', 'kind', isSmall ? 'face' : 'photo');
  state.kind = isSmall ? 'face' : 'photo';
  byId('compare').value = 0;
  fillTrack(byId('compare'), 0, 0);
  byId('start').hidden = true;
  byId('studio').hidden = false;
  byId('milliseconds').textContent = '';
  byId('drawn').hidden = !state.about.drawn || aligned;
  buildFaces();
  showFaces();
  showSliders();
  byId('strip').replaceChildren();
  tick([]);
  for (const input of document.querySelectorAll('#sliders input')) input.disabled = !state.faces.length;
  byId('download').disabled = !state.faces.length;
  await fetchBefore();
  edit();
  if (byId('strip-part').open) fetchStrip();
  say(byId('faces-note').textContent);
  document.body.dataset.photo = description.id;
}

const upload = file => working('Loading the photo and looking for faces …', async () => {
  if (file.size > 20 * 1024 * 1024) throw new Error(`${file.name}: more than 20 MB`);
  const answer = await ask('api/photos?' + new URLSearchParams({name: file.name || 'photo'}), {
    method: 'POST', body: file,
    headers: {'content-type': file.type || 'application/octet-stream'}});
  await take(await answer.json());
});

const takeExample = name => working('Loading the example …', async () =>
  take(await (await post(`api/examples/${encodeURIComponent(name)}`, {})).json()));

function leave() {
  if (state.photo) post(address('forget'), {}).catch(() => {});
  state.photo = null;
  byId('studio').hidden = true;
  byId('start').hidden = false;
  byId('drawn').hidden = !state.about.drawn;
  byId('file').value = '';
  byId('file').focus();
}

const download = () => working('Editing the photo at its full size …', async () => {
  const answer = await post(address('download'), wish());
  const link = make('a', {href: URL.createObjectURL(await answer.blob()),
    download: state.photo.name.replace(/\.\w+$/, '') + '_edited.png'});
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  say('The photo is downloaded.');
});

async function fetchRecipe() {
  if (!state.photo || !state.faces.length) return;
  try {
    const answer = await (await post(address('recipe'), wish())).json();
    if (document.activeElement !== byId('recipe')) byId('recipe').value = answer.text;
  } catch (error) { complain(error); }
}

function tick(labels) {
  state.labels = labels;
  for (const box of document.querySelectorAll('#labels input')) box.checked = labels.includes(box.value);
  showCommand();
}

const applyRecipe = () => working('Reading the recipe …', async () => {
  const text = byId('recipe').value;
  const answer = await (await post(address('read_recipe'), {text})).json();
  const before = snapshot();
  state.values = answer.values;
  if (answer.numbers) choose(answer.numbers, false);
  if (answer.labels) tick(answer.labels);
  remember(before);
  showSliders();
  edit();
  say(answer.remark || 'The recipe is applied.');
  if (answer.remark) complain(answer.remark);
});

async function copyRecipe() {
  await fetchRecipe();
  const text = byId('recipe');
  try {
    await navigator.clipboard.writeText(text.value);
  } catch (error) {    // not allowed without https on other machines
    text.focus();
    text.select();
    document.execCommand('copy');
  }
  byId('copy').textContent = 'Copied';
  setTimeout(() => { byId('copy').textContent = 'Copy'; }, 1500);
}

async function fetchStrip() {
  if (!state.photo || !state.faces.length) return;
  const {amount} = state, names = state.about.attributes;
  try {
    const answer = await post(address('strip'), {...wish(), amount});
    const sheet = await createImageBitmap(await answer.blob());
    const width = sheet.width / names.length;
    byId('strip').replaceChildren(...names.map((name, i) => {
      const canvas = make('canvas', {width, height: sheet.height});
      canvas.getContext('2d').drawImage(sheet, i * width, 0, width, sheet.height, 0, 0, width,
        sheet.height);
      const button = make('button', {}, canvas, make('span', {textContent: pretty(name)}));
      button.setAttribute('aria-label', `${pretty(name)} ${signed(amount)}`);
      button.addEventListener('click', () => {
        const before = snapshot();
        setValue(name, (state.values[name] || 0) === amount ? 0 : amount);
        remember(before);
        edit();
      });
      return make('li', {}, button);
    }));
  } catch (error) { fail(error); }
}

// ------------------------------------------------------------------------------- training

const training = {name: null, timer: null, samples: '', follow: true};
const duration = seconds => {
  if (seconds === null || !isFinite(seconds)) return 'unknown';
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${(seconds / 3600).toFixed(1)} h`;
  return `${(seconds / 86400).toFixed(1)} days`;
};
const short = value => value === null ? '–' : Math.abs(value) >= 1e4 || (value && Math.abs(value) < 1e-3)
  ? value.toExponential(1) : String(Number(value.toPrecision(3)));

async function showTraining() {
  clearTimeout(training.timer);
  if (byId('training').hidden || document.hidden) return;
  try {
    const {names} = await (await ask('api/experiments')).json();
    const select = byId('experiment');
    if (Array.from(select.options, option => option.value).join() !== names.join()) {
      select.replaceChildren(...names.map(name => make('option', {value: name, textContent: name})));
      training.name = names.includes(training.name) ? training.name : names[0];
      select.value = training.name;
    }
    if (!training.name) {
      byId('facts').textContent = 'There is no experiment in output/ yet.';
    } else {
      const answer = await ask(`api/experiments/${encodeURIComponent(training.name)}`);
      drawTraining(await answer.json());
    }
  } catch (error) { complain(error); }
  training.timer = setTimeout(showTraining, 4000);
}

function drawTraining(run) {
  const live = byId('live');
  live.className = run.live ? 'on' : '';
  live.textContent = run.live ? 'training now' : run.total && run.iteration >= run.total ? 'finished' :
    run.iteration ? `not running, last written ${duration(run.age)} ago` : 'not begun';
  const fact = (title, value, extra) => make('div', {}, make('span', {textContent: title}),
    make('b', {textContent: value}), ...(extra ? [extra] : []));
  const bar = run.total ? make('progress', {max: run.total, value: run.iteration}) : null;
  if (bar) bar.setAttribute('aria-label', 'share of the training that is done');
  byId('facts').replaceChildren(
    fact('iteration', run.iteration.toLocaleString('en') +
      (run.total ? ` of ${run.total.toLocaleString('en')}` : ''), bar),
    fact('epoch', `${run.epoch + 1} of ${run.epochs}`),
    fact('to go', run.remaining === null ? 'unknown' : duration(run.remaining)),
    fact('per iteration', `${short(run.seconds)} s`),
    fact('skipped updates', String(run.skipped)),
    fact('learning rate', short(((run.series.lr || []).slice(-1)[0] || [0, null])[1])));
  drawCurves(run.series);
  drawSamples(run);
  byId('checkpoints').replaceChildren(...run.checkpoints.map(each =>
    make('li', {textContent: `${each.name}, ${each.megabytes} MB`})).reverse());
  byId('settings').replaceChildren(...run.settings.map(text => make('li', {textContent: text})));
  document.body.dataset.training = run.name;
}

const FIRST = ['g_loss', 'd_loss', 'g_loss_rec', 'g_loss_att', 'd_loss_att', 'g_loss_gan',
  'd_loss_gan', 'gp', 'lr', 'g_skipped', 'd_skipped'];
const NAMED = {g_loss: 'generator loss', d_loss: 'discriminator loss',
  g_loss_rec: 'reconstruction (generator)', g_loss_att: 'attributes (generator)',
  d_loss_att: 'attributes (discriminator)', g_loss_gan: 'adversarial (generator)',
  d_loss_gan: 'adversarial (discriminator)', gp: 'gradient penalty', lr: 'learning rate',
  g_skipped: 'skipped updates (generator)', d_skipped: 'skipped updates (discriminator)',
  g_loss_scale: 'loss scale (generator)', d_loss_scale: 'loss scale (discriminator)',
  seconds: 'seconds per iteration'};
const svg = (tag, attributes, text) => {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
};

function drawCurves(series) {
  const names = Object.keys(series).filter(name => name !== 'epoch');
  const rank = name => FIRST.includes(name) ? FIRST.indexOf(name) : 99;
  names.sort((a, b) => rank(a) - rank(b));
  byId('curves-title').hidden = !names.length;
  byId('curves').replaceChildren(...names.map(name => chart(name, series[name])));
}

function chart(name, points) {
  const width = 300, height = 110, left = 38, bottom = 16;
  const finite = points.filter(([, value]) => value !== null);
  // What the beginning of a training does would flatten the rest: the scale leaves out the most
  // extreme hundredth.
  const sorted = finite.map(([, value]) => value).sort((a, b) => a - b);
  let low = sorted[Math.floor(.01 * sorted.length)] || 0;
  let high = sorted[Math.ceil(.99 * sorted.length) - 1] || 0;
  if (low === high) { low -= Math.abs(low) / 2 || .5; high += Math.abs(high) / 2 || .5; }
  const first = points[0][0], last = Math.max(points[points.length - 1][0], first + 1);
  const x = step => left + (step - first) / (last - first) * (width - left - 4);
  const y = value => 4 + (high - value) / (high - low) * (height - bottom - 8);
  const clipped = value => Math.max(0, Math.min(height - bottom, y(value)));
  const line = finite.map(([step, value], i) =>
    `${i ? 'L' : 'M'}${x(step).toFixed(1)} ${clipped(value).toFixed(1)}`).join('');
  const newest = finite.length ? finite[finite.length - 1][1] : null;
  const title = NAMED[name] || name, now = make('span', {textContent: short(newest)});
  const picture = svg('svg', {viewBox: `0 0 ${width} ${height}`, role: 'img',
    'aria-label': `${title}: ${short(newest)} at iteration ${last}`});
  for (const value of [low, (low + high) / 2, high]) {
    picture.append(svg('line', {x1: left, x2: width, y1: y(value), y2: y(value)}),
      svg('text', {x: left - 4, y: y(value) + 3, 'text-anchor': 'end'}, short(value)));
  }
  picture.append(svg('text', {x: left, y: height - 2}, first.toLocaleString('en')),
    svg('text', {x: width, y: height - 2, 'text-anchor': 'end'}, last.toLocaleString('en')));
  const cursor = svg('line', {class: 'cursor', y1: 0, y2: height - bottom, visibility: 'hidden'});
  picture.append(cursor, svg('path', {d: line}));
  picture.addEventListener('pointermove', event => {
    const box = picture.getBoundingClientRect();
    const step = first + ((event.clientX - box.left) / box.width * width - left) /
      (width - left - 4) * (last - first);
    const nearest = points.reduce((best, point) =>
      Math.abs(point[0] - step) < Math.abs(best[0] - step) ? point : best);
    cursor.setAttribute('x1', x(nearest[0]));
    cursor.setAttribute('x2', x(nearest[0]));
    cursor.setAttribute('visibility', 'visible');
    now.textContent = `${short(nearest[1])} at ${nearest[0].toLocaleString('en')}`;
  });
  picture.addEventListener('pointerleave', () => {
    cursor.setAttribute('visibility', 'hidden');
    now.textContent = short(newest);
  });
  return make('div', {className: 'chart'}, make('h3', {textContent: title + ' '}, now), picture);
}

function drawSamples(run) {
  byId('samples-part').hidden = !run.samples.length;
  if (!run.samples.length) return;
  const key = run.name + run.samples.join(), time = byId('time');
  if (key !== training.samples) {
    const follow = training.follow || !training.samples.startsWith(run.name);
    training.samples = key;
    training.names = run.samples;
    time.max = run.samples.length - 1;
    if (follow) time.value = time.max;
  }
  showSample();
}

function showSample() {
  const time = byId('time'), file = training.names[time.value];
  const place = file.match(/Epoch_\((\d+)\)_\((\d+)of(\d+)\)/);
  const text = place ? `epoch ${Number(place[1]) + 1}, iteration ${place[2]} of ${place[3]}` : file;
  byId('sample-name').textContent = `${text} (${Number(time.value) + 1} of ${training.names.length})`;
  time.setAttribute('aria-valuetext', text);
  fillTrack(time, 0, Number(time.value));
  const source = `api/experiments/${encodeURIComponent(training.name)}/samples/${encodeURIComponent(file)}`;
  if (byId('sample').getAttribute('src') !== source) byId('sample').src = source;
  byId('sample').alt = `Sample sheet, ${text}: sources, reconstructions and edits`;
  training.follow = time.value === time.max;
}

// ------------------------------------------------------------------------------- wiring

function setRadio(group, key, value) {
  for (const button of byId(group).querySelectorAll('button')) {
    const isIt = button.dataset[key] === String(value);
    button.setAttribute('aria-checked', isIt);
    button.tabIndex = isIt ? 0 : -1;
  }
}

function radio(group, key, action) {
  const buttons = Array.from(byId(group).querySelectorAll('button'));
  buttons.forEach((button, i) => {
    button.addEventListener('click', () => {
      setRadio(group, key, button.dataset[key]);
      action(button.dataset[key]);
    });
    button.addEventListener('keydown', event => {
      const step = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
      if (!step) return;
      event.preventDefault();
      const next = buttons[(i + step + buttons.length) % buttons.length];
      next.focus();
      next.click();
    });
  });
  return value => buttons.find(button => button.dataset[key] === value).click();
}

function openTab(name) {
  for (const each of ['edit', 'training']) {
    byId(each).hidden = each !== name;
    byId('tab-' + each).setAttribute('aria-selected', each === name);
    byId('tab-' + each).tabIndex = each === name ? 0 : -1;
  }
  if (name === 'training') showTraining();
}

function wire() {
  for (const name of ['edit', 'training']) {
    byId('tab-' + name).addEventListener('click', () => openTab(name));
    byId('tab-' + name).addEventListener('keydown', event => {
      if (!['ArrowLeft', 'ArrowRight'].includes(event.key)) return;
      const other = name === 'edit' ? 'training' : 'edit';
      if (byId('tab-' + other).hidden) return;
      openTab(other);
      byId('tab-' + other).focus();
    });
  }
  const setKind = radio('kinds', 'kind', kind => {
    if (state.kind === kind) return;
    state.kind = kind;
    showFaces();
    refresh();
  });
  const setView = radio('views', 'view', view => {
    state.view = view;
    byId('gates').hidden = view !== 'gates';
    showFaces();
    draw();
    if (view === 'gates') fetchGates().catch(fail);
  });
  radio('gate-modes', 'mode', mode => { state.gateMode = mode; drawGates(); });
  radio('amounts', 'amount', amount => { state.amount = Number(amount); fetchStrip(); });

  const compare = byId('compare');
  const setCompare = value => {
    state.compare = Math.max(0, Math.min(100, value));
    compare.value = state.compare;
    compare.setAttribute('aria-valuetext', `${Math.round(state.compare)} % before`);
    fillTrack(compare, 0, Number(compare.value));
    draw();
  };
  compare.addEventListener('input', () => setCompare(Number(compare.value)));
  const stage = byId('stage');
  let dragging = false;
  stage.addEventListener('pointerdown', event => {
    if (event.target.closest('#boxes button')) return;
    dragging = true;
    stage.setPointerCapture(event.pointerId);
    follow(event);
  });
  const follow = event => {
    const box = stage.getBoundingClientRect();
    setCompare(100 * (event.clientX - box.left) / box.width);
  };
  stage.addEventListener('pointermove', event => { if (dragging) follow(event); });
  for (const name of ['pointerup', 'pointercancel'])
    stage.addEventListener(name, () => { dragging = false; });

  byId('undo').addEventListener('click', () => travel(state.past, state.future));
  byId('redo').addEventListener('click', () => travel(state.future, state.past));
  byId('reset').addEventListener('click', () => {
    const before = snapshot();
    state.values = {};
    remember(before);
    showSliders();
    edit();
  });
  byId('download').addEventListener('click', download);
  byId('another').addEventListener('click', leave);
  byId('copy').addEventListener('click', copyRecipe);
  byId('apply').addEventListener('click', applyRecipe);
  byId('recipe-part').addEventListener('toggle', fetchRecipe);
  byId('strip-part').addEventListener('toggle', () => {
    if (byId('strip-part').open) fetchStrip();
  });
  byId('error').querySelector('button').addEventListener('click', () => { byId('error').hidden = true; });

  byId('file').addEventListener('change', event => {
    if (event.target.files[0]) upload(event.target.files[0]);
  });
  const canTake = () => state.about && state.about.experiment && !byId('edit').hidden;
  document.addEventListener('dragover', event => {
    event.preventDefault();
    document.body.classList.add('dropping');
  });
  for (const name of ['dragleave', 'drop'])
    document.addEventListener(name, () => document.body.classList.remove('dropping'));
  document.addEventListener('drop', event => {
    event.preventDefault();
    const file = event.dataTransfer.files[0];
    if (file && canTake()) upload(file);
  });
  document.addEventListener('paste', event => {
    const file = Array.from(event.clipboardData.files).find(each => each.type.startsWith('image/'));
    if (file && canTake()) { event.preventDefault(); upload(file); }
  });

  document.addEventListener('keydown', event => {
    const typing = event.target.matches('textarea, select');
    if (!state.photo || byId('edit').hidden || typing) return;
    const key = event.key.toLowerCase();
    if ((event.ctrlKey || event.metaKey) && (key === 'z' || key === 'y')) {
      event.preventDefault();
      if (key === 'y' || event.shiftKey) travel(state.future, state.past);
      else travel(state.past, state.future);
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (key === 'b' && !state.holdBefore) { state.holdBefore = true; draw(); }
    else if (key === 'f') setKind(state.kind === 'photo' ? 'face' : 'photo');
    else if (key === 'd') setView('difference');
    else if (key === 'g') setView('gates');
    else if (key === 'r') setView('result');
    else if (state.photo.faces.some(face => String(face.number) === key)) choose([Number(key)]);
  });
  document.addEventListener('keyup', event => {
    if (event.key.toLowerCase() === 'b' && state.holdBefore) { state.holdBefore = false; draw(); }
  });

  byId('experiment').addEventListener('change', event => {
    training.name = event.target.value;
    training.follow = true;
    showTraining();
  });
  byId('time').addEventListener('input', showSample);
  document.addEventListener('visibilitychange', showTraining);
}

async function begin() {
  wire();
  const about = state.about = await (await ask('api/about')).json();
  if (!about.experiment) {
    byId('tab-edit').hidden = true;
    byId('model').textContent = 'watching output/';
    openTab('training');
    return;
  }
  byId('model').textContent = `${about.experiment} · ${about.img_size}×${about.img_size} pixels · ` +
    `${about.attributes.length} attributes`;
  byId('drawn').hidden = !about.drawn;
  if (about.label === 'target') {
    byId('labels').hidden = false;
    byId('labels').querySelector('div').replaceChildren(...about.attributes.map(name => {
      const box = make('input', {type: 'checkbox', value: name});
      box.addEventListener('change', () => {
        const before = snapshot();
        tick(Array.from(document.querySelectorAll('#labels input:checked'), each => each.value));
        remember(before);
        edit();
        if (byId('strip-part').open) fetchStrip();
      });
      return make('label', {}, box, ' ' + pretty(name));
    }));
  }
  byId('examples').replaceChildren(...about.examples.map(name => {
    const button = make('button', {}, make('img', {alt: '', loading: 'lazy',
      src: `api/examples/${encodeURIComponent(name)}`}), make('span', {textContent: name}));
    button.addEventListener('click', () => takeExample(name));
    return make('li', {}, button);
  }));
  buildSliders();
  document.body.dataset.ready = 1;
}

begin().catch(complain);

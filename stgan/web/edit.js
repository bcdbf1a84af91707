'use strict';

const byId = id => document.getElementById(id);
const size = MODEL.img_size, label = MODEL.inputs[1];
const crop = byId('crop'), edited = byId('edited'), zoom = byId('zoom');
const sliders = [];
// The photo, and the square of it that is shown: its centre and its side in the photo's pixels.
let photo = null, centre = [0, 0];
let encoder = null, decoder = null, features = null;
let running = false, again = false;

for (const canvas of [crop, edited])
  canvas.width = canvas.height = size;

function say(text) {
  byId('state').textContent = text;
}

function bytes(base64) {
  return Uint8Array.from(atob(base64), letter => letter.charCodeAt(0));
}

async function load() {
  const module = new Blob([RUNTIME.loader], {type: 'text/javascript'});
  ort.env.wasm.wasmPaths = {mjs: URL.createObjectURL(module)};
  ort.env.wasm.wasmBinary = bytes(RUNTIME.binary);
  // More threads need a server that sends special headers.
  ort.env.wasm.numThreads = 1;
  const session = base64 => ort.InferenceSession.create(bytes(base64),
                                                        {executionProviders: ['wasm']});
  encoder = await session(MODEL.encoder);
  decoder = await session(MODEL.decoder);
  say('Choose a photo.');
}

function side() {
  const longest = Math.min(photo.width, photo.height);
  const shortest = Math.min(longest, 32);
  return longest * Math.pow(shortest / longest, zoom.value / 100);
}

/** The square of the photo as float32 [1,size,size,3] in [-1,1]. */
function image() {
  const pixels = crop.getContext('2d').getImageData(0, 0, size, size).data;
  const values = new Float32Array(size * size * 3);
  for (let from = 0, to = 0; from < pixels.length; from += 4)
    for (let channel = 0; channel < 3; channel++)
      values[to++] = pixels[from + channel] / 127.5 - 1;
  return new ort.Tensor('float32', values, [1, size, size, 3]);
}

/** What the sliders say: one label; a slider's unit is thres_int, as test_int's. */
function told() {
  const values = Float32Array.from(sliders, slider => slider.value * MODEL.thres_int);
  return new ort.Tensor('float32', values, [1, 1, values.length]);
}

function show(tensor) {
  const picture = new ImageData(size, size);
  for (let from = 0, to = 0; to < picture.data.length; to++)
    picture.data[to] = to % 4 === 3 ? 255 : Math.round((tensor.data[from++] + 1) * 127.5);
  edited.getContext('2d').putImageData(picture, 0, 0);
}

/** Edit what is shown, once more if something has changed meanwhile. */
async function update() {
  again = true;
  if (running || !photo || !decoder)
    return;
  running = true;
  try {
    while (again) {
      again = false;
      const began = performance.now();
      if (!features)
        features = await encoder.run({image: image()});
      const result = await decoder.run({...features, [label]: told()});
      show(result.edited);
      say(`${Math.round(performance.now() - began)} ms`);
    }
  } catch (error) {
    say(`The edit failed: ${error.message || error}`);
  } finally {
    running = false;
  }
}

function drawCrop() {
  const length = side(), half = length / 2;
  centre = [photo.width, photo.height].map(
    (all, axis) => Math.min(Math.max(centre[axis], half), all - half));
  const context = crop.getContext('2d');
  context.imageSmoothingQuality = 'high';
  context.drawImage(photo, centre[0] - half, centre[1] - half, length, length, 0, 0, size, size);
  features = null;
  return update();
}

async function choose(file) {
  try {
    photo = await createImageBitmap(file);
  } catch (error) {
    say(`${file.name}: not an image that this browser reads.`);
    return;
  }
  centre = [photo.width / 2, photo.height / 2];
  zoom.value = 0;
  for (const id of ['zoom', 'reset', 'save'])
    byId(id).disabled = false;
  await drawCrop();
}

function move(right, down) {
  if (!photo)
    return;
  const scale = side() / crop.clientWidth;
  centre = [centre[0] - right * scale, centre[1] - down * scale];
  drawCrop();
}

MODEL.attributes.forEach(name => {
  const row = document.createElement('label'), slider = document.createElement('input');
  const value = document.createElement('output');
  Object.assign(slider, {type: 'range', min: -3, max: 3, step: .1, value: 0, id: name});
  slider.oninput = () => {
    value.textContent = Number(slider.value).toFixed(1);
    update();
  };
  value.textContent = '0.0';
  row.append(name.replace(/_/g, ' '), slider, value);
  byId('sliders').append(row);
  sliders.push(slider);
});

byId('photo').onchange = event => event.target.files.length && choose(event.target.files[0]);
document.body.ondragover = event => event.preventDefault();
document.body.ondrop = event => {
  event.preventDefault();
  if (event.dataTransfer.files.length)
    choose(event.dataTransfer.files[0]);
};
zoom.oninput = drawCrop;
crop.onpointerdown = event => crop.setPointerCapture(event.pointerId);
crop.onpointermove = event => event.buttons && move(event.movementX, event.movementY);
crop.onkeydown = event => {
  const steps = {ArrowLeft: [-4, 0], ArrowRight: [4, 0], ArrowUp: [0, -4], ArrowDown: [0, 4]};
  if (steps[event.key]) {
    event.preventDefault();
    move(...steps[event.key]);
  }
};
byId('reset').onclick = () => sliders.forEach(slider => {
  slider.value = 0;
  slider.oninput();
});
byId('save').onclick = () => edited.toBlob(blob => {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = 'edited.png';
  link.click();
});

const ready = load().then(update).catch(error => say(`The model does not load: ${error.message}`));

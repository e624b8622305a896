// Asks for the newest result, draws it, says so, asks again: there is never more than one picture on its way.
"use strict";

const OLD_MS = 2000; // a picture that stands this long must not be taken for a live one
const RETRY_MS = 1000;

const element = (id) => document.getElementById(id);
const canvas = element("picture");
const context = canvas.getContext("2d");
canvas.width = canvas.height = 0;

const landmarks = new Map(); // name -> its switch and what is said of it; the model's, once it has said them
let newest = 0; // the frame that is shown
let state = -1; // the session's, as last heard
let paused = false;
let over = false;
let message = "Waiting for the first frame …";
let readyAt = performance.now(); // when the program had the frame that is shown
let hides = 0; // how often the page was hidden or seen again
let untouched = true; // the opacity is what the program starts pages with
let redrawing = false;

const nextRefresh = () => new Promise(requestAnimationFrame);
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

async function post(path) {
  try {
    await fetch(path, { method: "POST" });
  } catch {
    // The loop below says when the program is gone.
  }
}

async function show(blob, { frame, lain_s }) {
  const ready = performance.now() - 1000 * lain_s;
  const picture = await createImageBitmap(blob);
  if (frame < newest) return; // a newer one came first
  const seen = document.hidden ? -1 : hides;
  await nextRefresh(); // of a hidden page: when somebody looks again
  if (canvas.width !== picture.width || canvas.height !== picture.height) {
    canvas.width = picture.width;
    canvas.height = picture.height;
  }
  context.drawImage(picture, 0, 0);
  picture.close();
  newest = frame;
  readyAt = ready;
  // Drawn before this refresh, on the screen by the next. A page that nobody sees measures nothing.
  nextRefresh().then(() => seen === hides && post(`shown?frame=${frame}`));
}

function addLandmark(name, color) {
  const [item, label, box, swatch, output] = ["li", "label", "input", "span", "output"].map((tag) => document.createElement(tag));
  box.type = "checkbox";
  box.name = name;
  box.checked = true;
  box.addEventListener("change", redraw);
  swatch.className = "swatch";
  swatch.style.backgroundColor = color;
  label.append(box, " ", swatch, ` ${name} `);
  if (landmarks.size < 9) {
    const key = document.createElement("kbd");
    key.textContent = String(landmarks.size + 1);
    label.append(key);
  }
  item.append(label, output);
  element("landmarks").append(item);
  landmarks.set(name, { box, output });
}

// The first that is heard of them, or another session answers here.
function nameLandmarks(found) {
  if ([...landmarks.keys()].join() === Object.keys(found).join()) return;
  element("landmarks").replaceChildren();
  landmarks.clear();
  for (const [name, { color }] of Object.entries(found)) addLandmark(name, color);
}

function tell(status) {
  state = status.state;
  paused = status.paused;
  if (untouched) element("opacity").value = 100 * status.alpha;
  over = status.over;
  message = status.message;
  element("source").textContent = status.source;
  element("pause").setAttribute("aria-pressed", String(paused));
  if (status.landmarks) {
    for (const [name, { present, probability }] of Object.entries(status.landmarks)) {
      const { output } = landmarks.get(name);
      output.textContent = `${present ? "in the frame" : "not found"} (${Math.round(100 * probability)} %)`;
      output.classList.toggle("present", present);
    }
    element("calibration").hidden = status.calibrated;
  }
  const times = status.times;
  for (const name of ["captured", "processed", "shown"]) {
    element(name).textContent = `${times[`${name}_per_s`].toFixed(1)} /s`;
  }
  element("dropped").textContent = String(times.dropped);
  const latency = times.latency_ms;
  element("latency").textContent = latency ? `${Math.round(latency.median)} ms (95 %: ${Math.round(latency.p95)} ms)` : "–";
}

function tellAge() {
  const age = performance.now() - readyAt;
  const old = canvas.width > 0 && (over || (!paused && age > OLD_MS));
  const text = message || (paused ? "Paused." : old ? `No new frame for ${Math.floor(age / 1000)} s.` : "");
  if (element("message").textContent !== text) element("message").textContent = text;
  element("stage").classList.toggle("old", old);
}

function look() {
  const wanted = new URLSearchParams();
  const hidden = [...landmarks.values()].some(({ box }) => !box.checked);
  // All of them need no names, and before the first frame there are none.
  if (hidden) wanted.set("landmarks", [...landmarks].filter(([, { box }]) => box.checked).map(([name]) => name).join(","));
  if (!untouched) wanted.set("alpha", element("opacity").value / 100);
  return wanted.toString();
}

async function ask(after, knownState) {
  const wanted = look();
  const answer = await fetch(`frame?after=${after}&state=${knownState}&${wanted}`);
  if (!answer.ok) throw new Error(await answer.text());
  const status = JSON.parse(answer.headers.get("Live-Status"));
  if (status.landmarks) nameLandmarks(status.landmarks);
  // A picture of former settings would flash up.
  if (answer.status === 200 && wanted === look()) await show(await answer.blob(), status);
  tell(status);
}

async function run() {
  for (;;) {
    try {
      await ask(newest, state);
      if (over) await pause(RETRY_MS);
    } catch {
      if (!over) message = "The program does not answer: it has ended, or the connection is lost.";
      over = true;
      newest = 0; // another session may answer here later
      state = -1;
      await pause(RETRY_MS);
    }
    tellAge();
  }
}

// A setting was changed: the newest frame again, redrawn. A paused session gives no other.
async function redraw() {
  if (redrawing) return;
  redrawing = true;
  try {
    let drawn;
    do {
      drawn = look();
      await ask(0, -1);
    } while (drawn !== look());
  } catch {
    // The loop above says when the program is gone.
  }
  redrawing = false;
}

function setOpacity() {
  untouched = false;
  redraw();
}

function togglePause() {
  post(`pause?paused=${paused ? 0 : 1}`);
}

function toggleWhole() {
  if (document.fullscreenElement) document.exitFullscreen();
  else if (element("stage").requestFullscreen) element("stage").requestFullscreen();
}

element("opacity").addEventListener("input", setOpacity);
element("pause").addEventListener("click", togglePause);
element("whole").addEventListener("click", toggleWhole);
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const chosen = /^[1-9]$/.test(event.key) ? [...landmarks.values()][Number(event.key) - 1] : undefined;
  const opacity = element("opacity");
  if (chosen) {
    chosen.box.checked = !chosen.box.checked;
    redraw();
  } else if ((event.key === "ArrowUp" || event.key === "ArrowDown") && document.activeElement !== opacity) {
    event.preventDefault();
    opacity.value = Number(opacity.value) + (event.key === "ArrowUp" ? 5 : -5);
    setOpacity();
  } else if (event.key === "p" || event.key === "P") togglePause();
  else if (event.key === "f" || event.key === "F") toggleWhole();
});
document.addEventListener("visibilitychange", () => {
  hides += 1;
});
setInterval(tellAge, 500);
run();

// Keeps an open page up to date and shows its times as the reader's own. Every page works without this script.

const FETCH_INTERVAL = 2_000, SPREAD = 300, POLL_SOONEST = 5_000, POLL_LATEST = 60_000; // Milliseconds.
const FIRST_BELL = 5_000, SILENCE = 40_000; // A stream rings within 1 s, and then gives a sign of life every 15 s.

const content = document.getElementById("content");
const notice = document.getElementById("changes") ?? Object.assign(document.createElement("p"), { id: "changes" });
const texts = new Map(); // What the server said last of each part, by its id.
let etag = content.dataset.etag, nextChange = content.dataset.next;
let stream = null, hasRung = false, watchdog = 0;
let timer = 0, due = Infinity, asked = -Infinity, isFetching = false, hasNews = false, pollPause = POLL_SOONEST;
let unseen = 0, silentSince = null, clockSkew = 0; // Changes that are not shown. How far the farm's clock is ahead.

const farm = (path) => new URL(`../${path}`, import.meta.url).href;
const jittered = (milliseconds) => milliseconds * (0.8 + Math.random() * 0.4); // Many tabs lose a replica at once.

// When to fetch: after a bell, when time alone has changed the page, and now and then while no stream comes through.
function fetchIn(milliseconds) {
  const when = Math.max(performance.now() + milliseconds, asked + FETCH_INTERVAL);
  if (document.hidden || isFetching || when >= due) return;
  clearTimeout(timer);
  due = when;
  timer = setTimeout(refresh, when - performance.now());
}

async function refresh() {
  [asked, due, isFetching, hasNews] = [performance.now(), Infinity, true, false];
  const isShown = await fetchFragment().catch(() => null); // Null when the farm does not answer.
  isFetching = false;
  silentSince = isShown === null ? silentSince ?? new Date() : null;
  say();
  if (isShown === null) return fetchIn(jittered(POLL_SOONEST));
  if (!stream && !document.hidden) listen();
  if (hasNews) fetchIn(0);
  if (!isShown) fetchIn(POLL_SOONEST);
  if (nextChange) fetchIn(nextChange * 1_000);
  if (hasRung) return;
  fetchIn(jittered(pollPause));
  pollPause = Math.min(pollPause * 1.5, POLL_LATEST);
}

// Returns whether the page shows all that the farm has answered.
async function fetchFragment() {
  const headers = { "X-Fragment": "1", "If-None-Match": etag };
  const answer = await fetch(location.href, { headers, cache: "no-store", signal: AbortSignal.timeout(20_000) });
  if (answer.status >= 500) throw new Error(`status ${answer.status}`);
  const here = encodeURIComponent(location.pathname + location.search);
  if (answer.status === 401) location.assign(`${farm("sign-in")}?next=${here}`);
  clockSkew = new Date(answer.headers.get("Date") ?? Date.now()) - Date.now();
  nextChange = answer.headers.get("X-Next-Change");
  if (answer.status === 304) return true;
  pollPause = POLL_SOONEST;
  if (!answer.ok) return Boolean(unseen = 1); // What the page shows is gone.
  const isShown = update(new DOMParser().parseFromString(await answer.text(), "text/html").body);
  if (isShown) etag = answer.headers.get("ETag"); // Otherwise the same answer is fetched again.
  return isShown;
}

// The bell. A page that is hidden does not listen, because a browser has six connections for each farm.
function listen() {
  stream = new EventSource(farm("changes"));
  stream.addEventListener("changed", () => { hear(); hasNews = true; fetchIn(Math.random() * SPREAD); });
  stream.addEventListener("alive", hear);
  stream.addEventListener("error", lose);
  watchdog = setTimeout(lose, FIRST_BELL);
}

function hear() {
  [hasRung, pollPause] = [true, POLL_SOONEST];
  clearTimeout(watchdog);
  watchdog = setTimeout(lose, SILENCE);
}

function lose() {
  if (hasRung) fetchIn(jittered(FETCH_INTERVAL)); // Otherwise a fetch is planned already. Each begins a new stream.
  stream?.close();
  [stream, hasRung] = [null, false];
  clearTimeout(watchdog);
}

function showOrHide() {
  clearTimeout(timer);
  due = Infinity;
  if (document.hidden) lose();
  else fetchIn(0);
}

// What a fetch changes: the parts that differ, but none that the reader is using.
const partsOf = (root) => [...root.querySelectorAll("[data-part]")];

function update(fresh) {
  let isShown = true;
  unseen = 0;
  fresh.querySelector("#changes")?.remove();
  if (shapeOf(fresh) !== shapeOf(content)) {
    isInUse(content) ? unseen = 1 : content.replaceChildren(notice, ...prepared(fresh).childNodes);
    return true;
  }
  for (const part of partsOf(fresh)) {
    const here = document.getElementById(part.id);
    if (!here || texts.get(part.id) === part.outerHTML) continue;
    if (isInUse(here)) isShown = false;
    else here.replaceWith(withTicksOf(here, prepared(document.importNode(part, true))));
  }
  for (const list of fresh.querySelectorAll("[data-list]")) {
    const old = document.getElementById(list.id), rows = partsOf(list), oldRows = partsOf(old);
    const [ids, oldIds] = [rows, oldRows].map((each) => new Set(each.map((row) => row.id)));
    const gone = oldRows.filter((row) => !ids.has(row.id)), added = rows.filter((row) => !oldIds.has(row.id));
    if (list.dataset.list === "announce") { unseen += gone.length + added.length; continue; }
    for (const row of gone) isInUse(row) ? isShown = false : row.remove();
    const home = oldRows[0]?.parentElement ?? old.querySelector("tbody") ?? old;
    rows.forEach((row, place) => {
      const here = oldIds.has(row.id) ? document.getElementById(row.id) : prepared(document.importNode(row, true));
      if (home.children[place] !== here && !isInUse(here)) home.insertBefore(here, home.children[place] ?? null);
    });
  }
  return isShown;
}

// The lists, and the parts outside of them and of each other. Where they differ, no part can be put into place.
function shapeOf(root) {
  const places = [...root.querySelectorAll("[data-list], [data-part]")];
  return places.filter((each) => !each.parentElement.closest("[data-list], [data-part]")).map((each) => each.id).join();
}

function isInUse(element) {
  const [fields, selection] = [[...element.querySelectorAll("input, textarea")], getSelection()];
  return (element.matches(":focus-within") && document.activeElement !== content)
    || element.matches("details[open]") || element.querySelector("details[open]") !== null
    || fields.some((field) => field.value !== field.defaultValue)
    || (!selection.isCollapsed && selection.containsNode(element, true));
}

function withTicksOf(old, part) {
  const ticked = new Set([...old.querySelectorAll("input:checked")].map((box) => `${box.name} ${box.value}`));
  for (const box of part.querySelectorAll("input")) box.checked ||= ticked.has(`${box.name} ${box.value}`);
  return part;
}

// What the page does not show.
function say() {
  const text = silentSince ? `No answer from the farm since ${MOMENT.format(silentSince)}: `
    : unseen ? `${unseen} ${unseen === 1 ? "change" : "changes"}, ` : "";
  notice.hidden = !text;
  if (notice.dataset.text === text) return; // It would be read aloud again.
  const link = Object.assign(document.createElement("a"), { href: location.href, textContent: "refresh" });
  notice.replaceChildren(...(notice.dataset.text = text) ? [text, link] : []);
}

// What every page has, live or not: times, and what only a script can do.
const MOMENT = new Intl.DateTimeFormat("sv-SE", { dateStyle: "short", timeStyle: "short" }); // 2026-11-28 23:05

function prepared(root) {
  for (const part of [root, ...partsOf(root)]) texts.set(part.id, part.outerHTML);
  for (const each of root.querySelectorAll("[data-copy], [data-check-all]")) each.hidden = false;
  showTimes(root);
  return root;
}

function showTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime), left = (at - Date.now() - clockSkew) / 60_000;
    if ("ago" in time.dataset) time.textContent = `${span(-left)} ago`;
    else if ("left" in time.dataset) time.textContent = left > 0 ? `in ${span(left)}` : "now";
    else time.textContent = MOMENT.format(at);
  }
}

function span(minutes) {
  const [size, unit] = minutes < 60 ? [1, "min"] : minutes < 2_880 ? [60, "h"] : [1_440, "d"];
  return minutes < 1 ? "less than 1 min" : `${Math.floor(minutes / size)} ${unit}`;
}

document.addEventListener("click", async ({ target }) => {
  const button = target.closest("[data-copy]");
  if (!button) return;
  const source = document.querySelector(button.dataset.copy);
  getSelection().selectAllChildren(source);
  if (navigator.clipboard) await navigator.clipboard.writeText(source.textContent.trim());
  else document.execCommand("copy"); // Over plain http there is no clipboard.
  button.textContent = "Copied";
});
document.addEventListener("change", ({ target }) => {
  if (!target.dataset.checkAll) return;
  for (const box of document.getElementsByName(target.dataset.checkAll)) box.checked = target.checked;
});
document.addEventListener("keydown", (event) => {
  const field = document.querySelector("[data-search]"), isTyping = event.target.matches("input, select, textarea");
  if (event.key !== "/" || !field || isTyping || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  field.focus();
});

prepared(content);
setInterval(() => showTimes(content), 10_000);
if ("live" in content.dataset) {
  content.prepend(Object.assign(notice, { role: "status", hidden: true }));
  document.addEventListener("visibilitychange", showOrHide);
  if (!document.hidden) [listen(), fetchIn(POLL_SOONEST)];
}

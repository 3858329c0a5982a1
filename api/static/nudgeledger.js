/* nudgeledger.js: tells the ledger what the user does, and shows the nudge that the ledger offers.
 *
 *   <script src="https://host/nudgeledger.js" data-product="acme" data-user="u_1" async></script>
 *
 * Optional attributes: data-session, data-api, data-token, data-capture="off",
 * data-position="bottom-end | bottom-start | top-end | top-start", data-with="usertour rasa inkeep intercom posthog".
 * In the page: data-nudgeledger-label names an element, data-nudgeledger-ignore keeps a part out.
 * Field values are never read. Control: window.nudgeledger (the last section).
 */
(() => {
  "use strict";

  const stub = window.nudgeledger || {};
  if (stub.version) return; // a second script tag must not double every event

  const IDLE_MS = 30 * 60 * 1000; // a session ends after this long without an event
  const FLUSH_MS = 100; // short enough that a nudge follows a click at once, long enough to batch
  const BATCH = 50; // events a request
  const QUEUE = 500; // events kept while the service cannot be reached; the oldest go first
  const FINAL = ["answered", "dismissed", "superseded", "expired"]; // a nudge closed for these is over

  const tag = document.currentScript || document.querySelector("script[data-product][src*='nudgeledger']");
  const config = {
    product: null, user: null, session: null, token: null, capture: "", position: "bottom-end", with: "",
    api: tag && tag.src ? new URL(tag.src).origin : location.origin,
    texts: {
      region: "Suggestion", showMe: "Show me", openChat: "Open chat", dismiss: "Dismiss",
      announce: "Suggestion: {body} Press F6 to go to it.",
    },
    ...(tag ? tag.dataset : {}),
  };

  // --- small tools -------------------------------------------------------------------------------

  // Storage may be forbidden or full. Then a page is its own memory, and everything else still works.
  const memory = {};
  const read = (area, key) => {
    try { return JSON.parse(window[area].getItem(key)); } catch { return memory[area + key] ?? null; }
  };
  const write = (area, key, value) => {
    try { window[area].setItem(key, JSON.stringify(value)); } catch { memory[area + key] = value; }
  };
  const key = (name) => `nudgeledger:${config.product}:${name}`;

  let lastMs = 0;
  let count = 0;
  /** A UUIDv7. Ids of one millisecond count up, because the ledger orders equal instants by id. */
  function uuid() {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    if (Date.now() > lastMs) { lastMs = Date.now(); count = bytes[7]; }
    else if (++count > 0xfff) { lastMs++; count = 0; }
    for (let i = 0; i < 6; i++) bytes[i] = Math.floor(lastMs / 2 ** (40 - 8 * i)) & 255;
    bytes[6] = 0x70 | (count >> 8);
    bytes[7] = count & 255;
    bytes[8] = 0x80 | (bytes[8] & 0x3f);
    const hex = Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
    return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
  }

  const visible = () => document.visibilityState === "visible";
  const jitter = (ms) => ms * (0.75 + Math.random() / 2);

  const target = new EventTarget(); // for on() and off()
  const wrapped = new WeakMap();

  /** Tells the host. A callback of the host's that throws must not stop the script. */
  function announce(name, detail, callback, ...args) {
    target.dispatchEvent(new CustomEvent(name, { detail }));
    document.dispatchEvent(new CustomEvent(`nudgeledger:${name}`, { detail }));
    if (callback && typeof api[callback] === "function") {
      try { api[callback](...args); } catch (e) { console.error(e); }
    }
  }

  // --- who ---------------------------------------------------------------------------------------

  // One record in localStorage, shared by all tabs: {user | anon, session, seen}.
  const record = () => read("localStorage", key("who")) || {};

  /** The ids for an event that happens now. Begins a new session after half an hour of silence. */
  function who(touch) {
    const w = record();
    const now = Date.now();
    const before = JSON.stringify(w);
    if (!w.user && !w.anon) w.anon = `anon_${uuid()}`;
    if (!w.session || now - w.seen > IDLE_MS) {
      if (w.session) queueMicrotask(moved);
      w.session = `s_${uuid()}`;
      w.seen = now;
    }
    if (touch) w.seen = now;
    if (JSON.stringify(w) !== before) write("localStorage", key("who"), w);
    return { session_id: config.session || w.session, user_id: w.user || w.anon };
  }

  /** From now on the user is `user`. An anonymous past is joined; another person's session is left. */
  function become(user) {
    const w = record();
    const anonymous = w.anon || null;
    if (w.user && w.user !== user) w.session = null;
    write("localStorage", key("who"), { user, session: w.session, seen: w.seen });
    return w.user ? null : anonymous;
  }

  function identify(user, { email, traits } = {}) {
    const changed = record().user !== String(user);
    const previous_id = become(String(user)) || undefined;
    emit("user_identified", { previous_id, email, traits });
    if (changed) moved();
  }

  /** Forgets the user, for a log-out: the next event is a new anonymous person's, in a new session. */
  function reset() {
    flush();
    if (current) { say({ kind: "closed", nudge_id: current.nudge_id }); put(current); }
    tour = null;
    config.session = null;
    write("localStorage", key("who"), {});
    moved();
    page();
  }

  /** Another tool says who this is and in which session; nothing is reported. */
  function adopt({ user, session }) {
    const before = JSON.stringify(who(false));
    if (session) config.session = String(session);
    if (user) become(String(user));
    if (JSON.stringify(who(false)) !== before) moved();
  }

  /** The ids changed: the stream of the old ones is of no use, here and in the other tabs. */
  function moved() {
    say({ kind: "moved" });
    reconnect();
  }

  // --- sending -----------------------------------------------------------------------------------

  let outbox = []; // events not yet acknowledged, oldest first
  let sending = null; // the request under way; one at a time, so that the order is kept
  let timer = 0;
  let failures = 0;
  let skew = 0; // the server's clock minus ours, in ms

  /** Queues an event. One with `via` goes by POST /tour/start instead, at its place in the order. */
  function emit(type, data, via) {
    if (!config.product || closed) return;
    outbox.push({ event_id: uuid(), type, ...who(true), occurred_at: new Date().toISOString(), data, via });
    outbox = outbox.slice(-QUEUE);
    schedule(outbox.length >= 20 ? 0 : FLUSH_MS);
  }

  function schedule(ms) {
    if (timer && failures) return; // waiting out a failure: more events must not shorten it
    clearTimeout(timer);
    timer = setTimeout(() => { timer = 0; flush(); }, ms);
  }

  const path = (rest) => `${config.api}/v1/products/${encodeURIComponent(config.product)}/${rest}`;

  function body(events) {
    const sent_at = new Date().toISOString(); // lets the server correct a wrong clock
    return JSON.stringify({ events: events.map(({ via, ...e }) => ({ ...e, sent_at })), atomic: false });
  }

  async function post(url, text) {
    const headers = { "content-type": "application/json" };
    if (config.token) headers.authorization = `Bearer ${config.token}`;
    const answer = await fetch(url, {
      method: "POST", headers, body: text, credentials: "omit",
      keepalive: text.length < 60000, // browsers refuse more than 64 kB
      signal: AbortSignal.timeout ? AbortSignal.timeout(15000) : undefined,
    });
    const date = Date.parse(answer.headers.get("date") || "");
    if (date) skew = Math.abs(date - Date.now()) > 5000 ? date - Date.now() : 0;
    return answer;
  }

  /** Sends what is queued. Fulfilled once it is durable, or once an attempt has failed. */
  function flush() {
    if (sending) return sending.then(() => (failures ? undefined : flush()));
    if (!outbox.length) return Promise.resolve();
    clearTimeout(timer);
    timer = 0;
    const start = outbox[0].via && outbox[0];
    const next = outbox.findIndex((e) => e.via);
    const batch = start ? [start] : outbox.slice(0, next < 0 ? BATCH : Math.min(next, BATCH));
    sending = (start ? startedTour(start) : post(path("events"), body(batch)))
      .then(async (answer) => {
        if (answer.status >= 500 || answer.status === 429 || answer.status === 408) throw answer;
        // Anything else in the 400s would be refused again: dropping it keeps the rest flowing.
        if (!answer.ok) console.warn("nudgeledger: events refused", answer.status);
        const sent = new Set(batch.map((e) => e.event_id));
        outbox = outbox.filter((e) => !sent.has(e.event_id));
        failures = 0;
        announce("sent", await answer.json().catch(() => ({})));
      })
      .catch((problem) => {
        // The same events go again under the same ids, so a lost answer cannot count a click twice.
        const asked = problem.headers && Number(problem.headers.get("retry-after")) * 1000;
        const wait = asked || Math.min(30000, 500 * 2 ** failures++);
        failures = Math.max(failures, 1);
        clearTimeout(timer);
        timer = setTimeout(() => { timer = 0; flush(); }, jitter(wait));
      })
      .finally(() => {
        sending = null;
        if (outbox.length && !timer) schedule(0);
      });
    return sending;
  }

  // --- what the user does ------------------------------------------------------------------------

  let seenUrl = null;
  const action = (type, title, more) =>
    emit("action", { type, title: tidy(title), raw_url: location.href.slice(0, 4000), ...more });
  const tidy = (text) => String(text || "").replace(/\s+/g, " ").trim().slice(0, 200);

  function page() {
    seenUrl = location.href;
    action("pageview", document.title || location.pathname);
  }

  // A router changes the address first and the title a moment later: look after it has done both.
  const navigated = () => setTimeout(() => { if (!closed && location.href !== seenUrl) page(); });

  const ACTIVE =
    "a,button,summary,select,textarea,input,label,[role=button],[role=link],[role=menuitem],[role=tab]," +
    "[role=checkbox],[role=radio],[role=switch],[data-nudgeledger-label]";

  /** What a person would call the element. Never a field's value, nor text typed into the page. */
  function label(element) {
    const by = (element.getAttribute("aria-labelledby") || "").split(" ").map((id) => id && document.getElementById(id));
    const field = element.matches("input,select,textarea") || element.isContentEditable;
    const button = element.matches("input[type=submit],input[type=button],input[type=reset]");
    const image = element.querySelector("img[alt],[aria-label],title");
    const names = [
      element.dataset.nudgeledgerLabel,
      element.getAttribute("aria-label"),
      by.map((e) => (e ? e.innerText : "")).join(" "),
      button && element.value,
      field ? element.labels && element.labels[0] && caption(element.labels[0]) : caption(element),
      element.getAttribute("title"),
      image && !field && (image.getAttribute("alt") || image.getAttribute("aria-label") || image.textContent),
      element.getAttribute("placeholder"),
      element.getAttribute("name"),
    ];
    return names.map(tidy).find(Boolean);
  }

  /** Visible text without that of fields inside, whose options or text are the user's own. */
  function caption(element) {
    if (!element.querySelector("select,textarea,[contenteditable]")) return element.innerText;
    const copy = element.cloneNode(true);
    copy.querySelectorAll("select,textarea,[contenteditable]").forEach((e) => e.remove());
    return copy.textContent;
  }

  const ignored = (element) => element.closest("[data-nudgeledger-ignore]");

  function clicked(event) {
    const origin = event.composedPath()[0];
    const element = origin instanceof Element && !ignored(event.target) && origin.closest(ACTIVE);
    if (!element || ignored(element)) return;
    // A click on a label is followed by the browser's own click on its field: one is enough.
    if (element.tagName === "LABEL" && element.control) return;
    const title = label(element);
    if (title) action("click", title);
  }

  function submitted(event) {
    const form = event.target;
    if (!(form instanceof HTMLFormElement) || ignored(form)) return;
    // The form's own name, not its button's: the button's click has been reported already.
    action("submit", form.dataset.nudgeledgerLabel || form.getAttribute("aria-label") || form.getAttribute("name") || "form");
  }

  // --- the stream --------------------------------------------------------------------------------

  // One tab holds the connection and passes each frame on: a browser allows six connections to a
  // host, and a seventh tab would otherwise stop every request. The lock is handed over when that tab
  // goes; a tab that comes to the front takes it, since a tab in the back may be frozen.
  let source = null;
  let streamFor = null; // whose stream `source` is
  let lastId = "";
  let retries = 0;
  let retryTimer = 0;
  let leading = false;
  let resign = null; // gives the connection up to another tab
  let queued = null;

  function lead(steal) {
    if (closed) return;
    if (!navigator.locks) { leading = true; connect(); return; }
    if (queued) queued.abort();
    queued = steal ? null : new AbortController();
    let granted = false;
    navigator.locks
      .request(key("stream"), steal ? { steal } : { signal: queued.signal }, () => {
        granted = leading = true;
        connect();
        return new Promise((resolve) => { resign = resolve; }); // until the tab goes or another takes it
      })
      .catch(() => {
        if (!granted) return; // our own abort of a place in the queue
        leading = false;
        disconnect();
        lead(false);
      });
  }

  function connect() {
    disconnect();
    if (closed || !leading) return;
    const { user_id, session_id } = who(false);
    if (streamFor !== user_id + session_id) lastId = "";
    streamFor = user_id + session_id;
    const query = new URLSearchParams({ user_id, session_id, tab_id: tab });
    if (lastId) query.set("last_event_id", lastId);
    if (config.token) query.set("token", config.token);
    source = new EventSource(`${path("nudges/stream")}?${query}`);
    source.onopen = () => { retries = 0; };
    for (const name of ["proactive", "nudge_closed"]) {
      source.addEventListener(name, (event) => {
        if (event.lastEventId) lastId = event.lastEventId;
        let data;
        try { data = JSON.parse(event.data); } catch { return; }
        const frame = { kind: "frame", name, data: { ...data, position: Number(lastId) || 0 } };
        say(frame);
        hear(frame);
      });
    }
    source.onerror = () => {
      // After a broken connection the browser comes back by itself; after a refusal it gives up.
      if (source && source.readyState === EventSource.CLOSED) {
        disconnect();
        retryTimer = setTimeout(connect, jitter(Math.min(30000, 1000 * 2 ** retries++)));
      }
    };
  }

  function disconnect() {
    clearTimeout(retryTimer);
    retryTimer = 0;
    if (source) source.close();
    source = null;
  }

  const reconnect = () => { if (leading) connect(); };

  // --- the tabs among themselves -----------------------------------------------------------------

  let channel = null;
  const say = (message) => { if (channel) channel.postMessage(message); };

  function hear(message) {
    if (message.kind === "frame" && !leading && message.data.position) {
      // So that a tab that takes the connection over goes on where the other one stopped.
      const { user_id, session_id } = who(false);
      streamFor = user_id + session_id;
      lastId = String(message.data.position);
    }
    if (message.kind === "frame" && message.name === "proactive") offer(message.data);
    else if (message.kind === "frame") withdrawn(message.data);
    else if (message.kind === "shown" || message.kind === "closed") {
      taken.add(message.nudge_id); // the server may send it once more before it hears that it is shown
      put(current, message.nudge_id);
    } else if (message.kind === "moved") reconnect();
    else if (message.kind === "hello" && current) {
      // A new tab: it may be the visible one that a waiting nudge needs, and must leave alone a shown one.
      say(current.shown ? { kind: "shown", nudge_id: current.nudge_id } : { kind: "frame", name: "proactive", data: current });
    }
  }

  // --- the nudge ---------------------------------------------------------------------------------

  let tab = null; // this tab's id, the same over a navigation
  let current = null; // the nudge that is open for this tab, waiting or shown
  let card = null; // its toast, while it is shown
  const taken = new Set(); // ids of nudges that another tab shows or has closed
  let asking = false;
  let release = null; // gives up the right to show
  let expiry = 0;
  let tour = null; // id of the running tour

  const settled = (id) => (read("localStorage", key("settled")) || []).includes(id);
  function settle(id) {
    const ids = read("localStorage", key("settled")) || [];
    if (!ids.includes(id)) write("localStorage", key("settled"), [...ids, id].slice(-20));
  }
  const left = (nudge) => (nudge.expires_at ? Date.parse(nudge.expires_at) - Date.now() - skew : Infinity);

  function offer(nudge) {
    if (!nudge.nudge_id || taken.has(nudge.nudge_id) || settled(nudge.nudge_id) || left(nudge) <= 0) return;
    if (current && (current.nudge_id === nudge.nudge_id || current.position > nudge.position)) return;
    if (current) put(current); // a newer offer supersedes the older one
    current = nudge;
    clearTimeout(expiry);
    expiry = setTimeout(expired, Math.min(left(nudge), 2 ** 31 - 1), nudge);
    ask();
  }

  /** Asks for the right to show: one tab of this browser has it, and only a visible one may ask. */
  function ask() {
    if (asking || card || !current || !visible() || closed) return;
    asking = true;
    const show = () => {
      asking = false;
      if (card || !current || !visible() || settled(current.nudge_id)) return undefined;
      return new Promise((resolve) => { release = resolve; reveal(current); });
    };
    if (navigator.locks) {
      const wait = new AbortController();
      let mine = false;
      const granted = () => { mine = true; return show(); };
      const lost = () => { if (mine) put(current); asking = false; };
      navigator.locks.request(key("toast"), { signal: wait.signal }, granted).catch(lost);
      // A tab in the back that still shows an older toast gives way at once, unless it is frozen.
      setTimeout(() => {
        if (mine || !current || !visible() || closed) return;
        wait.abort();
        navigator.locks.request(key("toast"), { steal: true }, granted).catch(lost);
      }, 1500);
      return;
    }
    // Without locks (plain http): the last to write within a moment has it.
    setTimeout(() => {
      write("localStorage", key("toast"), tab);
      setTimeout(() => { if (read("localStorage", key("toast")) === tab) show(); else asking = false; }, 80);
    }, 60 * Math.random());
  }

  function reveal(nudge) {
    card = toast(nudge);
    if (!nudge.shown) {
      nudge.shown = true;
      say({ kind: "shown", nudge_id: nudge.nudge_id });
      emit("nudge_shown", { nudge_id: nudge.nudge_id, tab_id: tab });
    }
    announce("shown", nudge);
  }

  /** Puts `nudge` away, if it is the one with that id (default: its own). Reports nothing. */
  function put(nudge, id = nudge && nudge.nudge_id) {
    if (!nudge || nudge !== current || nudge.nudge_id !== id) return;
    current = null;
    clearTimeout(expiry);
    if (card) { card.remove(); card = null; announce("closed", nudge); }
    if (release) { release(); release = null; }
  }

  /** The user, or time, has done with the nudge: it never comes back, in any tab. */
  function finish(nudge) {
    settle(nudge.nudge_id);
    say({ kind: "closed", nudge_id: nudge.nudge_id });
    put(nudge);
  }

  function withdrawn({ nudge_id, reason, tab_id }) {
    // "Shown" goes to every other connection. Ours may be held by another tab than the one that shows.
    const over = FINAL.includes(reason);
    if (!over && (tab_id === tab || (!tab_id && current && current.shown))) return;
    if (over) settle(nudge_id);
    taken.add(nudge_id);
    put(current, nudge_id);
  }

  function expired(nudge) {
    if (nudge !== current) return;
    const shown = Boolean(card);
    finish(nudge);
    if (shown) emit("nudge_dismissed", { nudge_id: nudge.nudge_id, tab_id: tab, by: "timeout" });
  }

  function dismiss() {
    if (!card) return;
    const nudge = current;
    emit("nudge_dismissed", { nudge_id: nudge.nudge_id, tab_id: tab, by: "user" });
    finish(nudge);
  }

  async function showMe(nudge, chosen) {
    finish(nudge);
    startTour(chosen.id, nudge);
    announce("showme", { tour: chosen, nudge });
    // Begun in the ledger, and nobody can show it: then it is over.
    if (!(await hand("showMe", "onShowMe", chosen, nudge)) && adapters.some((a) => a.showMe)) api.tour.end("dismissed");
  }

  async function openChat(nudge) {
    finish(nudge);
    announce("openchat", nudge);
    await arrived();
    const told = () => emit("chat_message", { role: "user", text: nudge.body });
    const reports = adapters.some((a) => a.openChat && a.reports); // its own call is recorded by the service
    if (!reports) told();
    if ((await hand("openChat", "onOpenChat", nudge)) !== "adapter" && reports) told();
  }

  // --- adapters: what a page's other tools do for a nudge ------------------------------------------

  const adapters = []; // {name, showMe(tour, nudge), openChat(nudge), reports}, asked in their order
  let loading = Promise.resolve();

  /** Adapters come from where the script came, named by data-with. */
  function load(names) {
    const wanted = (Array.isArray(names) ? names : String(names || "").split(/[\s,]+/)).filter(Boolean);
    if (!config.capture && wanted.includes("posthog")) config.capture = "off"; // one reporter is enough
    const from = (name) => new Promise((done) => {
      const nonce = tag && tag.nonce;
      const script = el("script", { src: `${config.api}/adapters/${encodeURIComponent(name)}.js`, load: done, error: done });
      if (nonce) script.nonce = nonce;
      document.head.append(script);
    });
    loading = Promise.all(wanted.map(from));
  }

  /** Waits for adapters under way, but not for long: a click must not seem to do nothing. */
  const arrived = () => Promise.race([loading, new Promise((done) => setTimeout(done, 3000))]);

  /** The first adapter that can takes it, else the host's callback; which of the two, or false for none. */
  async function hand(method, callback, ...args) {
    await arrived();
    for (const adapter of adapters) {
      if (!adapter[method]) continue;
      try { await adapter[method](...args); return "adapter"; } catch (e) { console.warn("nudgeledger:", adapter.name, e.message); }
    }
    if (typeof api[callback] !== "function") return false;
    try { api[callback](...args); } catch (e) { console.error(e); }
    return "host";
  }

  function choose(nudge, option) {
    finish(nudge);
    emit("option_clicked", { option_id: option.id, nudge_id: nudge.nudge_id });
    announce("option", { option, nudge }, "onOption", option, nudge);
    if (option.user_tour_exists && option.user_tour_id) showMe(nudge, { id: option.user_tour_id, label: option.label });
  }

  function startTour(id, nudge) {
    tour = id;
    emit("tour_started", { tour_id: id }, { nudge_id: nudge ? nudge.nudge_id : undefined });
    return flush();
  }

  /** /tour/start knows the nudge that is answered. The event's id makes a second attempt harmless. */
  function startedTour({ event_id, user_id, session_id, data, via }) {
    const call = { user_id, session_id, tour_id: data.tour_id, product_id: config.product, event_id, ...via };
    return post(`${config.api}/tour/start`, JSON.stringify(call));
  }

  // --- the toast ---------------------------------------------------------------------------------

  const CSS = `
    :host { all: initial; position: fixed; inset: auto; margin: 0; padding: 0; border: 0; background: none;
      overflow: visible; z-index: 2147483000; color-scheme: light dark;
      inset-block-end: var(--nudgeledger-block, 24px); inset-inline-end: var(--nudgeledger-inline, 24px);
      inline-size: min(372px, calc(100vw - 32px));
      --ink: #1c1d22; --soft: #5d606b; --paper: #fff; --line: #0000001a; --hover: #0000000d;
      --accent: var(--nudgeledger-accent, #4a3fd6); --on-accent: var(--nudgeledger-on-accent, #fff); }
    :host([data-position$=start]) { inset-inline: var(--nudgeledger-inline, 24px) auto; }
    :host([data-position^=top]) { inset-block: var(--nudgeledger-block, 24px) auto; }
    @media (prefers-color-scheme: dark) { :host { --ink: #f1f1f4; --soft: #a9abb6; --paper: #24252c; --line: #ffffff24;
      --hover: #ffffff14; --accent: var(--nudgeledger-accent, #a79fff); --on-accent: var(--nudgeledger-on-accent, #17143f); } }
    .card { box-sizing: border-box; position: relative; padding: 16px; border: 1px solid var(--line); border-radius: 16px;
      background: var(--paper); color: var(--ink); font: 400 15px/1.45 system-ui, -apple-system, "Segoe UI", sans-serif;
      box-shadow: 0 1px 2px #0000000f, 0 12px 40px -8px #0000003d; text-align: start;
      animation: rise .28s cubic-bezier(.2, .9, .3, 1.1); }
    @keyframes rise { from { opacity: 0; transform: translateY(12px) scale(.98); } }
    .top { display: flex; gap: 12px; padding-inline-end: 28px; }
    svg { flex: none; inline-size: 28px; block-size: 28px; color: var(--accent); }
    p { margin: 3px 0 0; overflow-wrap: anywhere; }
    .row { display: flex; flex-wrap: wrap; gap: 8px; margin-block-start: 14px; padding-inline-start: 40px; }
    .row + .row { margin-block-start: 8px; }
    button { font: inherit; font-size: 14px; font-weight: 500; line-height: 1.2; color: inherit; cursor: pointer; padding: 9px 14px;
      border: 1px solid var(--line); border-radius: 10px; background: none; text-align: start; }
    button:hover { background: var(--hover); }
    button:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
    .main { background: var(--accent); border-color: transparent; color: var(--on-accent); }
    .main:hover { background: var(--accent); filter: brightness(1.08); }
    .chip { padding: 6px 12px; border-radius: 99px; font-size: 13px; color: var(--soft); }
    .close { position: absolute; inset-block-start: 8px; inset-inline-end: 8px; inline-size: 32px; block-size: 32px; padding: 0;
      border-color: transparent; color: var(--soft); font-size: 20px; line-height: 1; text-align: center; }
    .quiet { position: absolute; inline-size: 1px; block-size: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
    @media (prefers-reduced-motion: reduce) { .card { animation: none; } }
    @media (prefers-contrast: more) { .card, button { border-color: var(--ink); } .chip, .close { color: var(--ink); } }
    @media (forced-colors: active) { .card { border: 2px solid CanvasText; } .main { forced-color-adjust: none;
      background: Highlight; color: HighlightText; } }`;

  function el(name, attributes, ...children) {
    const element = document.createElement(name);
    for (const [k, v] of Object.entries(attributes || {})) {
      if (typeof v === "function") element.addEventListener(k, v); else element.setAttribute(k, v);
    }
    element.append(...children);
    return element;
  }

  function spark() {
    const ns = "http://www.w3.org/2000/svg";
    const svg = document.createElementNS(ns, "svg");
    for (const [k, v] of [["viewBox", "0 0 28 28"], ["aria-hidden", "true"], ["fill", "currentColor"]]) svg.setAttribute(k, v);
    for (const [d, o] of [["M14 0a14 14 0 1 1 0 28a14 14 0 0 1 0-28z", ".14"],
      ["M14 6l2 5.8 6 2.2-6 2.2-2 5.8-2-5.8-6-2.2 6-2.2z", "1"]]) {
      const shape = document.createElementNS(ns, "path");
      shape.setAttribute("d", d);
      shape.setAttribute("opacity", o);
      svg.append(shape);
    }
    return svg;
  }

  /** Puts the nudge on the screen. It takes no focus: F6 goes to it and back, Escape inside dismisses. */
  function toast(nudge) {
    const text = config.texts;
    const host = el("div", { "data-nudgeledger": nudge.nudge_id, "data-nudgeledger-ignore": "", "data-position": config.position });
    const root = host.attachShadow({ mode: "open" });
    try { // a constructed sheet needs no style-src in the page's policy
      const sheet = new CSSStyleSheet();
      sheet.replaceSync(CSS);
      root.adoptedStyleSheets = [sheet];
    } catch { root.append(el("style", {}, CSS)); }

    const tours = nudge.tours || [];
    const button = (cls, caption, act) => el("button", { type: "button", class: cls, click: act }, caption);
    const actions = el("div", { class: "row" },
      ...tours.map((t) => button("main", tours.length > 1 ? t.label || t.id : text.showMe, () => showMe(nudge, t))),
      button(tours.length ? "plain" : "main", text.openChat, () => openChat(nudge)));
    const chips = el("div", { class: "row" },
      ...(nudge.options || []).map((o) => button("chip", o.label || o.id, () => choose(nudge, o))));
    const close = button("close", "\u00d7", dismiss);
    close.setAttribute("aria-label", text.dismiss);
    const box = el("div", { class: "card", role: "dialog", "aria-label": text.region, "aria-describedby": "body", "aria-keyshortcuts": "F6" },
      el("div", { class: "top" }, spark(), el("p", { id: "body" }, nudge.body)),
      ...(chips.childElementCount ? [chips] : []), actions, close);
    // A dialog that takes no focus is not read out. A status is, once its text comes after itself.
    const status = el("div", { class: "quiet", role: "status" });
    root.append(box, status);

    let before = null;
    const inside = () => document.activeElement === host;
    const back = () => { if (before && before.isConnected) before.focus(); before = null; };
    const keys = new AbortController();
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && inside()) { event.stopPropagation(); dismiss(); return; }
      if (event.key !== "F6") return;
      event.preventDefault();
      if (inside()) { back(); return; }
      before = document.activeElement;
      actions.querySelector("button").focus();
    }, { capture: true, signal: keys.signal });

    document.body.append(host);
    // The top layer: above a page's own layers, whatever their z-index.
    if (host.showPopover) { host.popover = "manual"; host.showPopover(); }
    setTimeout(() => { status.textContent = text.announce.replace("{body}", nudge.body); }, 100);
    setTimeout(() => { status.textContent = ""; }, 8000); // else it would be met twice when reading on
    return { remove() { const had = inside(); keys.abort(); host.remove(); if (had) back(); } };
  }

  // --- coming and going --------------------------------------------------------------------------

  let closed = false;
  let started = false;
  let listeners = null;

  // What must outlive a navigation is stored when the page goes and taken out when the next one
  // comes, so that a duplicated tab does not begin with a copy of another tab's toast and id.
  function restore() {
    const kept = read("sessionStorage", key("tab")) || {};
    write("sessionStorage", key("tab"), null);
    tab = kept.tab || tab || `t_${uuid()}`;
    tour = kept.tour || tour;
    const known = new Set(outbox.map((e) => e.event_id));
    outbox = [...(kept.outbox || []).filter((e) => !known.has(e.event_id)), ...outbox];
    if (outbox.length) schedule(0);
    if (kept.nudge) offer(kept.nudge);
  }

  function leave() {
    if (config.capture !== "off") action("pageleave", document.title || location.pathname);
    write("sessionStorage", key("tab"), { tab, tour, outbox, nudge: current });
    // A beacon outlives the page. Plain text needs no preflight, for which there would be no time.
    const token = config.token ? `?token=${encodeURIComponent(config.token)}` : "";
    for (let i = 0; i < outbox.length; i += BATCH) {
      const blob = new Blob([body(outbox.slice(i, i + BATCH))], { type: "text/plain" });
      if (!navigator.sendBeacon || !navigator.sendBeacon(path("events") + token, blob)) break;
    }
    disconnect();
  }

  function init(options = {}) {
    Object.assign(config, options, { texts: { ...config.texts, ...options.texts } });
    for (const name of ["onShowMe", "onOpenChat", "onOption"]) if (options[name]) api[name] = options[name];
    if (started || !config.product) return;
    started = true;
    closed = false;
    config.api = config.api.replace(/\/+$/, "");
    load(config.with);
    if (config.session) write("localStorage", key("who"), { ...record(), session: config.session, seen: Date.now() });
    const previous_id = config.user ? become(String(config.user)) : null;
    if (previous_id) emit("user_identified", { previous_id });

    if (window.BroadcastChannel) {
      channel = new BroadcastChannel(key("tabs"));
      channel.onmessage = (event) => hear(event.data);
    }
    listeners = new AbortController();
    const listen = (where, name, act) => where.addEventListener(name, act, { capture: true, signal: listeners.signal });
    listen(document, "visibilitychange", () => {
      if (!visible()) { flush(); return; }
      if (!leading) lead(true);
      else if (!source) connect();
      ask();
    });
    listen(window, "online", () => { failures = 0; flush(); if (!source) reconnect(); });
    listen(window, "pagehide", leave);
    listen(window, "pageshow", (event) => {
      if (!event.persisted) return; // back from the browser's page cache
      restore();
      lead(visible());
      page();
    });
    if (config.capture !== "off") {
      listen(document, "click", clicked);
      listen(document, "submit", submitted);
      listen(window, "popstate", navigated);
      listen(window, "hashchange", navigated);
      for (const name of ["pushState", "replaceState"]) {
        const original = history[name];
        history[name] = function (...args) {
          const result = original.apply(this, args);
          if (!closed) navigated();
          return result;
        };
      }
    }
    const begin = () => {
      restore();
      if (config.capture !== "off") page();
      lead(visible());
      say({ kind: "hello" });
    };
    if (document.body) begin();
    else document.addEventListener("DOMContentLoaded", begin, { once: true });
  }

  /** Sends what is queued and stops for good: no listener, stream or toast is left. */
  function shutdown() {
    const sent = flush();
    if (current) put(current);
    closed = true;
    disconnect();
    if (queued) queued.abort();
    if (resign) resign();
    if (listeners) listeners.abort();
    if (channel) channel.close();
    channel = null;
    return sent;
  }

  // --- window.nudgeledger ------------------------------------------------------------------------

  const api = {
    version: "0.3.0",
    inkeep: stub.inkeep || null, // the widget, for its adapter
    onShowMe: stub.onShowMe || null, // (tour, nudge)
    onOpenChat: stub.onOpenChat || null, // (nudge)
    onOption: stub.onOption || null, // (option, nudge)
    init, identify, reset, page, dismiss, flush, shutdown, adopt,
    use: (adapter) => { adapters.push(adapter); },
    post: (where, data) => post(`${config.api}/p/${encodeURIComponent(config.product)}${where}`, JSON.stringify(data)),
    track: (type, title, properties) => action(type, title || type, { properties }),
    chat: (text, role = "user") => emit("chat_message", { role, text }),
    goal: (goal_id) => emit("goal_reached", { goal_id }),
    reaction: (value) => emit("reaction", { value }),
    tour: {
      get id() { return tour; },
      start: (id) => startTour(id, null),
      step: (step) => { if (tour) emit("tour_step", { tour_id: tour, step }); },
      end: (outcome = "completed") => {
        if (tour) emit("tour_ended", { tour_id: tour, outcome: outcome || undefined });
        tour = null;
      },
    },
    /** Events: showme, openchat, option, shown, closed, sent. Also on document as nudgeledger:<event>. */
    on(name, act) {
      if (!wrapped.has(act)) wrapped.set(act, (event) => act(event.detail));
      target.addEventListener(name, wrapped.get(act));
    },
    off: (name, act) => target.removeEventListener(name, wrapped.get(act)),
    get session_id() { return config.product ? who(false).session_id : null; },
    get user_id() { return config.product ? who(false).user_id : null; },
    get nudge() { return card ? current : null; },
    // Calls made before the script came: nudgeledger.q.push(["identify", "u_1"]).
    q: { push: (...calls) => calls.forEach(run) },
  };

  function run([name, ...args]) {
    const [first, second] = String(name).split(".");
    try { (second ? api[first][second] : api[first])(...args); } catch (e) { console.error("nudgeledger:", name, e); }
  }

  window.nudgeledger = api;
  init();
  for (const call of stub.q || []) run(call);
})();

// The demo: a small product (projects, report), the tour and chat that its host would bring, and a
// panel that shows what the ledger holds about this session, over the public HTTP API alone.
"use strict";

const $ = (selector) => document.querySelector(selector);
const el = (name, attributes = {}, ...children) => {
  const element = document.createElement(name);
  for (const [k, v] of Object.entries(attributes)) if (v !== undefined) element.setAttribute(k, v);
  element.append(...children.filter((c) => c !== null && c !== undefined));
  return element;
};
// Calls wait in this queue until nudgeledger.js, which is loaded async, has come.
window.nudgeledger = window.nudgeledger || { q: [] };
const ledger = (name, ...args) => window.nudgeledger.q.push([name, ...args]);

// --- the product ------------------------------------------------------------------------------------

const STATUS = { active: "Active", review: "In review", hold: "On hold", done: "Finished" };
const OWNERS = { "Maya Lind": 172, "Jonas Okafor": 28, "Priya Raman": 268, "Tom Vasquez": 210 };
const START = [
  ["Harbour crane retrofit", "TW-104", "Maya Lind", "active", 84000],
  ["Ferry booking app", "TW-109", "Priya Raman", "review", 126500],
  ["Sluice gate sensors", "TW-112", "Jonas Okafor", "active", 58000],
  ["Pier 7 lighting", "TW-115", "Tom Vasquez", "hold", 31500],
  ["Tide table redesign", "TW-118", "Maya Lind", "active", 22000],
  ["Customs paperwork", "TW-121", "Priya Raman", "review", 47500],
  ["Dredging survey", "TW-126", "Jonas Okafor", "active", 93000],
  ["Visitor centre", "TW-130", "Tom Vasquez", "done", 68000],
].map(([name, code, owner, status, budget]) => ({ name, code, owner, status, budget }));

const stored = () => { try { return JSON.parse(sessionStorage.getItem("tidewater")); } catch { return null; } };
let projects = stored() || structuredClone(START);
let picked = new Set();
let bulking = false;
let editing = null;

const initials = (name) => name.split(" ").map((w) => w[0]).join("");
const money = (n) => `€${Number(n).toLocaleString("en")}`;
const pill = (status) => el("span", { class: `pill s-${status}` }, STATUS[status]);
const avatar = (name) => {
  const a = el("span", { class: "avatar", "aria-hidden": "true" }, initials(name));
  a.style.setProperty("--h", OWNERS[name] ?? 0);
  return a;
};

function draw(fresh = new Set()) {
  try { sessionStorage.setItem("tidewater", JSON.stringify(projects)); } catch { /* a page without storage */ }
  const wanted = $("#search").value.trim().toLowerCase();
  const rows = projects.filter((p) => `${p.name} ${p.owner} ${p.code}`.toLowerCase().includes(wanted));
  $("#rows").replaceChildren(...rows.map((p) => {
    const box = el("input", { type: "checkbox", "aria-label": `Select ${p.name}` });
    box.checked = picked.has(p.code);
    box.addEventListener("change", () => { picked[box.checked ? "add" : "delete"](p.code); drawBulk(); row.classList.toggle("picked", box.checked); });
    const edit = el("button", { type: "button", "aria-label": `Edit ${p.name}` }, "Edit");
    edit.addEventListener("click", () => openEditor(p));
    const row = el("tr", { class: `${fresh.has(p.code) ? "fresh" : ""} ${picked.has(p.code) ? "picked" : ""}` },
      el("td", { class: "pick" }, box),
      el("td", {}, el("b", {}, p.name), el("small", {}, p.code)),
      el("td", {}, el("span", { class: "owner" }, avatar(p.owner), p.owner)),
      el("td", {}, pill(p.status)),
      el("td", { class: "num" }, money(p.budget)),
      el("td", { class: "num" }, edit));
    return row;
  }));
  const total = projects.reduce((sum, p) => sum + p.budget, 0);
  $("#summary").textContent = `${projects.length} projects, ${money(total)} in all`;
  drawBulk();
  drawReport();
}

function drawBulk() {
  $("#projects").classList.toggle("bulking", bulking);
  $("#bulk").hidden = !bulking;
  $("#bulk-count").textContent = `${picked.size} selected`;
  $("#bulk-apply").disabled = !picked.size;
  $("#bulk-apply").textContent = picked.size ? `Apply to ${picked.size} project${picked.size > 1 ? "s" : ""}` : "Apply";
  $("#pick-all").checked = picked.size === projects.length;
  $("#pick-all").indeterminate = picked.size > 0 && picked.size < projects.length;
  $("#tour-next").disabled = !picked.size;
}

function drawReport() {
  const sums = Object.keys(STATUS).map((status) => [status, projects.filter((p) => p.status === status)]);
  const most = Math.max(1, ...sums.map(([, list]) => list.reduce((s, p) => s + p.budget, 0)));
  $("#bars").replaceChildren(...sums.map(([status, list]) => {
    const sum = list.reduce((s, p) => s + p.budget, 0);
    const bar = el("i", { class: `s-${status}` });
    bar.style.inlineSize = `${(100 * sum) / most}%`;
    return el("div", { class: "bars-row" }, el("span", {}, pill(status)), bar, el("span", { class: "num" }, `€${Math.round(sum / 1000)}k`),
      el("small", {}, list.map((p) => p.name).join(", ") || "none"));
  }));
}

function openEditor(project) {
  editing = project;
  const form = $("#editor form");
  $("#editor-title").textContent = `Edit ${project.name}`;
  for (const field of ["name", "owner", "status", "budget"]) form.elements[field].value = project[field];
  $("#editor").showModal();
}

function setBulk(on) {
  bulking = on;
  picked = new Set();
  draw();
}

function toggleMenu(open) {
  $("#more-menu").hidden = !open;
  $("#more").setAttribute("aria-expanded", String(open));
  if (open) $("#bulk-open").focus({ focusVisible: false });
}

let snackTimer = 0;
function snack(text, undo) {
  $("#snack span").textContent = text;
  $("#snack button").hidden = !undo;
  $("#snack button").onclick = () => { undo(); snack("Undone"); };
  $("#snack").hidden = false;
  clearTimeout(snackTimer);
  snackTimer = setTimeout(() => { $("#snack").hidden = true; }, undo ? 8000 : 2600);
}

/** The address decides what is shown; the router of a real product would do no more. */
function route() {
  const report = location.pathname.endsWith("/report");
  $("#report").hidden = !report;
  $("#projects").hidden = report;
  document.title = `${report ? "Report" : "Projects"} · Tidewater`;
  for (const link of document.querySelectorAll("nav a")) {
    if ((link.dataset.view === "report") === report) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function go(path) {
  if (location.pathname !== path) history.pushState(null, "", path);
  route();
}

function wireProduct() {
  for (const select of [$("#bulk-status"), $("#editor form").elements.status]) {
    select.append(...Object.entries(STATUS).map(([value, text]) => el("option", { value }, text)));
  }
  $("#editor form").elements.owner.append(...Object.keys(OWNERS).map((name) => el("option", {}, name)));
  $("#bulk-status").value = "done";
  for (const link of document.querySelectorAll("nav a")) {
    link.addEventListener("click", (event) => {
      if (event.metaKey || event.ctrlKey) return;
      event.preventDefault();
      go(new URL(link.href).pathname);
    });
  }
  window.addEventListener("popstate", route);
  $("#search").addEventListener("input", () => draw());
  $("#more").addEventListener("click", () => toggleMenu($("#more-menu").hidden));
  document.addEventListener("click", (event) => { if (!event.target.closest(".menu, #tour")) toggleMenu(false); });
  $(".menu").addEventListener("keydown", (event) => {
    const items = [...document.querySelectorAll("#more-menu button")];
    const at = items.indexOf(document.activeElement);
    if (event.key === "Escape" && !$("#more-menu").hidden) { event.stopPropagation(); toggleMenu(false); $("#more").focus(); }
    else if (event.key === "ArrowDown" && at >= 0) items[(at + 1) % items.length].focus();
    else if (event.key === "ArrowUp" && at >= 0) items[(at + items.length - 1) % items.length].focus();
  });
  $("#bulk-open").addEventListener("click", () => { toggleMenu(false); setBulk(true); });
  $("#export").addEventListener("click", () => {
    toggleMenu(false);
    const csv = ["code,name,owner,status,budget", ...projects.map((p) => [p.code, p.name, p.owner, p.status, p.budget].join(","))];
    const link = el("a", { href: URL.createObjectURL(new Blob([csv.join("\n")], { type: "text/csv" })), download: "projects.csv", "data-nudgeledger-ignore": "" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
  $("#pick-all").addEventListener("change", (event) => { picked = new Set(event.target.checked ? projects.map((p) => p.code) : []); draw(); });
  $("#bulk-cancel").addEventListener("click", () => setBulk(false));
  $("#bulk").addEventListener("submit", (event) => {
    event.preventDefault();
    const status = $("#bulk-status").value;
    const codes = new Set(picked);
    const before = structuredClone(projects);
    projects = projects.map((p) => (codes.has(p.code) ? { ...p, status } : p));
    setBulk(false);
    draw(codes);
    ledger("goal", "bulk_edit_used");
    snack(`${codes.size} project${codes.size > 1 ? "s" : ""} set to ${STATUS[status].toLowerCase()}`, () => { projects = before; draw(); });
    tourGuide.applied();
  });
  $("#editor-cancel").addEventListener("click", () => $("#editor").close());
  $("#editor form").addEventListener("submit", (event) => {
    const form = event.target;
    const change = { name: form.elements.name.value, owner: form.elements.owner.value, status: form.elements.status.value, budget: Number(form.elements.budget.value) };
    projects = projects.map((p) => (p.code === editing.code ? { ...p, ...change } : p));
    draw(new Set([editing.code]));
    snack(`${change.name} saved`);
  });
  $("#start-over").addEventListener("click", () => {
    projects = structuredClone(START);
    tourGuide.stop("dismissed");
    $("#chat").hidden = true;
    setBulk(false);
    go("/demo/projects");
    ledger("reset"); // a new anonymous person in a new session; what happened before stays in the ledger
    panel.clear();
  });
}

// --- the tour: what a host's own tour provider would do ---------------------------------------------

const tourGuide = {
  at: 0, // 1 to 4 while it runs
  reported: 0,
  steps: [
    null,
    { target: "#more", say: "Everything for the whole table is behind this menu. Open it." },
    { target: "#bulk-open", say: "Choose “Bulk edit”." },
    { target: "th.pick", depth: ".sheet", say: "Tick the projects to change, or the box at the top for all of them." },
    { target: "#bulk", say: "Choose the new status and apply it to all of them at once." },
  ],
  start() {
    go("/demo/projects");
    setBulk(false);
    $("#chat").hidden = true;
    $("#tour").hidden = false;
    this.at = this.reported = 0;
    this.to(1);
    const follow = () => { if (this.at) { this.look(); this.place(); requestAnimationFrame(follow); } };
    requestAnimationFrame(follow);
  },
  to(step) {
    this.at = step;
    if (step > this.reported) { this.reported = step; ledger("tour.step", step); }
    $("#tour .step").textContent = `Step ${step} of 4`;
    $("#tour .say").textContent = this.steps[step].say;
    $("#tour-next").hidden = step !== 3;
  },
  /** The user does the steps; the tour watches how far they are. */
  look() {
    const menu = !$("#more-menu").hidden;
    if (bulking && this.at < 3) this.to(3);
    else if (!bulking && this.at >= 3) this.to(1);
    else if (this.at === 1 && menu) this.to(2);
    else if (this.at === 2 && !menu && !bulking) this.to(1);
  },
  place() {
    const { target, depth } = this.steps[this.at];
    const { left, top, right, bottom } = $(target).getBoundingClientRect();
    const end = Math.min(depth ? $(depth).getBoundingClientRect().bottom : bottom, innerHeight - 18);
    const hole = $(".hole").style;
    hole.left = `${left - 6}px`;
    hole.top = `${top - 6}px`;
    hole.width = `${right - left + 12}px`;
    hole.height = `${end - top + 12}px`;
    // Below the spot where there is room, else beside it; never over the panel, which shows each step.
    const tip = $(".tip");
    const below = end + 20 + tip.offsetHeight < innerHeight;
    const edge = $("main").getBoundingClientRect().right - tip.offsetWidth - 16;
    tip.style.left = `${Math.max(12, Math.min(below ? left - 6 : right + 20, edge))}px`;
    tip.style.top = `${below ? end + 20 : Math.max(16, Math.min(top + 60, innerHeight - tip.offsetHeight - 16))}px`;
  },
  applied() { if (this.at) this.stop("completed"); },
  stop(outcome) {
    if (!this.at) return;
    this.at = 0;
    $("#tour").hidden = true;
    ledger("tour.end", outcome);
  },
};

// --- the chat: no model, only the guide that the product's config holds ------------------------------

let guides = {};
async function loadGuides() {
  const answer = await fetch("/v1/products/demo/config").catch(() => null);
  const body = answer && answer.ok ? await answer.json() : {};
  const triggers = (body.config || body).triggers || [];
  guides = Object.fromEntries(triggers.map((t) => [t.id, t.how_to]));
}

function bubble(text, mine) {
  $("#chat-log").append(el("p", mine ? { class: "mine" } : {}, text));
  $("#chat-log").scrollTop = 1e6;
}

function openChat(nudge, question) {
  $("#chat-log").replaceChildren();
  $("#chat").hidden = false;
  bubble(nudge.body);
  if (question) bubble(question, true);
  const answer = question ? "Yes. For a few seconds after you apply a change, “Undo” is at the bottom of the page." : guides[nudge.trigger_id];
  setTimeout(() => {
    if (answer) { bubble(answer.trim()); ledger("chat", answer.trim(), "assistant"); }
    for (const tour of nudge.tours || []) {
      const button = el("button", { type: "button" }, "Show me");
      button.onclick = () => { ledger("tour.start", tour.id); tourGuide.start(); };
      $("#chat-log").append(button);
    }
  }, 500);
  $("#chat-input").focus();
}

function wireGuide() {
  const ours = window.nudgeledger;
  ours.onShowMe = () => tourGuide.start();
  ours.onOpenChat = (nudge) => openChat(nudge);
  ours.onOption = (option, nudge) => openChat(nudge, option.label);
  document.addEventListener("nudgeledger:sent", () => panel.soon());
  document.addEventListener("nudgeledger:shown", () => panel.soon());
  $("#tour-end").onclick = () => tourGuide.stop("dismissed");
  $("#tour-next").onclick = () => tourGuide.to(4);
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") tourGuide.stop("dismissed"); });
  $("#chat-close").onclick = () => { $("#chat").hidden = true; };
  $("#chat").addEventListener("keydown", (event) => { if (event.key === "Escape") $("#chat").hidden = true; });
  $("#chat-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = $("#chat-input").value.trim();
    if (!text) return;
    bubble(text, true);
    ledger("chat", text);
    $("#chat-input").value = "";
    setTimeout(() => bubble("No model is connected to this demo, but your message is in the ledger: see the panel."), 500);
  });
}

// --- the panel --------------------------------------------------------------------------------------

const quote = (text) => `“${text}”`;
const SENTENCES = {
  action: (d) => ({
    pageview: `Opened ${quote(d.title)}`, pageleave: `Left ${quote(d.title)}`,
    click: `Clicked ${quote(d.title)}`, submit: `Submitted ${quote(d.title)}`,
  })[d.type] || `${d.type}: ${d.title}`,
  chat_message: (d) => `${d.role === "user" ? "Asked" : "Was answered"} in the chat`,
  option_clicked: (d) => `Chose ${quote(d.option_id)}`,
  reaction: (d) => `Reacted: ${d.value}`,
  tour_started: (d) => `Started the tour ${d.tour_id}`,
  tour_step: (d) => `Reached tour step ${d.step}`,
  tour_ended: (d) => `The tour was ${d.outcome || "ended"}`,
  nudge_shown: () => "The nudge became visible",
  nudge_dismissed: (d) => (d.by === "timeout" ? "The nudge expired" : "Dismissed the nudge"),
  user_identified: () => "Was identified",
  goal_reached: (d) => `Reached the goal ${d.goal_id}`,
  nudge_offered: (d) => `Offered ${quote(d.trigger_id)}`,
  nudge_withheld: (d) => `Held back ${quote(d.trigger_id)}: ${REASONS[d.reason] || d.reason}`,
  interaction_timed_out: () => "Nobody interacted: back to thinking",
};
const REASONS = {
  ok: "criteria met, every gate open", state_proactive_assistance: "a nudge is already open",
  state_reactive_assistance: "a conversation is going on", cooldown_active: "it is the pause after the last one",
  trigger_cooldown: "this one was offered a moment ago", tour_running: "a tour is running",
  user_busy: "another session of this user has one open", min_gap: "too soon after the last one",
  limit_reached: "the limit is used up", quiet_hours: "it is quiet hours", missed: "its moment had passed",
  outranked: "another one came first", holdout: "this user is in the hold-out group",
};
const clock = (instant) => new Date(instant).toLocaleTimeString("en-GB");
const short = (id) => (id.length > 17 ? `${id.slice(0, 4)}…${id.slice(-8)}` : id);

const panel = {
  session: null, // the id shown
  after: 0,
  seen: new Set(),
  busy: false,
  again: false,
  state: null,
  skew: 0, // the server's clock minus ours
  total: 0, // ms of the phase that is counted down
  due: null,

  clear() {
    this.session = null;
    this.seen = new Set();
    this.after = 0;
    this.state = this.due = null;
    $("#events").replaceChildren(el("li", { class: "soft empty" }, "Waiting for the first one."));
    $("#decisions").replaceChildren(el("p", { class: "soft empty" }, "None yet. A decision is recorded when a trigger’s criteria are met."));
    $("#state-text").textContent = "No event has been recorded yet.";
    for (const pip of document.querySelectorAll(".pips li")) pip.classList.remove("on");
    this.saves = 0;
    this.hint();
  },

  soon() { if (this.busy) this.again = true; else this.refresh(); },

  async refresh() {
    const id = window.nudgeledger.session_id;
    if (!id || this.busy || document.visibilityState !== "visible") return;
    this.busy = true;
    if (id !== this.session) { this.clear(); this.session = id; }
    const base = "/v1/products/demo";
    const get = async (path) => { const answer = await fetch(base + path); return answer.ok ? answer.json() : null; };
    try {
      const s = encodeURIComponent(id);
      const [session, events, decisions] = await Promise.all([
        get(`/sessions/${s}`), get(`/sessions/${s}/events?after=${this.after}&limit=200`), get(`/decisions?session_id=${s}`)]);
      if (id === window.nudgeledger.session_id) {
        if (session) this.showState(session);
        if (events) this.showEvents(events.events);
        if (decisions) this.showDecisions(decisions.decisions);
      }
      $("#live").className = "live on";
      $("#live").setAttribute("aria-label", "live");
    } catch {
      $("#live").className = "live";
      $("#live").setAttribute("aria-label", "the service cannot be reached");
    }
    this.busy = false;
    if (this.again) { this.again = false; this.refresh(); }
  },

  showState(session) {
    const [first, second] = document.querySelectorAll(".ids span");
    first.textContent = short(session.session_id);
    second.textContent = short(session.user_id || "");
    this.state = session;
    this.skew = Date.parse(session.at) - Date.now();
    for (const li of document.querySelectorAll(".machine li")) li.classList.toggle("on", li.dataset.state === session.current_state);
    const thinking = session.current_state === "thinking";
    const due = thinking ? session.cooldown_active && session.cooldown_until : session.timeout_due_at;
    if (due !== this.due) { this.due = due; this.total = due ? Date.parse(due) - Date.now() - this.skew : 0; }
    this.tick();
  },

  /** Between two answers of the server the countdown runs on by itself. */
  tick() {
    if (!this.state) return;
    const left = this.due ? Math.max(0, Date.parse(this.due) - Date.now() - this.skew) : 0;
    const seconds = Math.ceil(left / 1000);
    const tour = this.state.active_tour_id ? ` The tour ${this.state.active_tour_id} is running.` : "";
    const text = this.state.current_state === "thinking"
      ? (this.due ? `Paused after a nudge: the next one may come in ${seconds} s.` : "Watching. Nothing is being offered.")
      : `${this.state.current_state === "proactive_assistance" ? "A nudge was offered" : "The user asked"}. Back to thinking in ${seconds} s.`;
    if ($("#state-text").textContent !== text + tour) $("#state-text").textContent = text + tour;
    $("#meter").hidden = !this.due;
    $("#meter i").style.inlineSize = `${this.total ? Math.min(100, (100 * left) / this.total) : 0}%`;
  },

  saves: 0,
  hint() {
    [...document.querySelectorAll(".pips li")].forEach((pip, i) => pip.classList.toggle("on", i < this.saves));
    const text = this.saves < 1 ? ["Try it:", " edit three projects, one after the other, and save each."]
      : this.saves < 3 ? ["Good.", ` ${3 - this.saves} more, within two minutes of the first.`]
        : ["That was the third.", " Open a decision in the panel to read why."];
    $("#hint-text").replaceChildren(el("b", {}, text[0]), text[1]);
  },

  showEvents(events) {
    for (const event of events) {
      if (this.seen.has(event.event_id)) continue;
      this.seen.add(event.event_id);
      this.after = Math.max(this.after, event.version);
      const data = event.data || {};
      if (event.type === "action" && /save changes/i.test(data.title)) { this.saves += 1; this.hint(); }
      const sentence = (SENTENCES[event.type] || ((d) => event.type.replaceAll("_", " ")))(data);
      const empty = $("#events .empty");
      if (empty) empty.remove();
      $("#events").prepend(el("li", { class: `new ${event.origin === "engine" ? "engine" : ""}` },
        el("code", {}, `#${event.version}`), el("span", {}, sentence), el("time", { datetime: event.at }, clock(event.at))));
    }
    while ($("#events").childElementCount > 60) $("#events").lastElementChild.remove();
  },

  showDecisions(decisions) {
    const known = new Set([...document.querySelectorAll("#decisions details")].map((d) => d.dataset.id));
    for (const decision of decisions.slice(0, 5).reverse()) {
      if (known.has(decision.decision_id)) continue;
      const empty = $("#decisions .empty");
      if (empty) empty.remove();
      const offered = decision.outcome === "offered";
      const details = el("details", { "data-id": decision.decision_id, class: decision.outcome },
        el("summary", {},
          el("span", { class: `pill ${offered ? "s-active" : "s-hold"}` }, decision.outcome),
          el("b", {}, decision.trigger_id.replaceAll("_", " ")),
          el("time", { datetime: decision.at }, clock(decision.at)),
          el("p", {}, REASONS[decision.reason] || decision.reason)));
      details.addEventListener("toggle", () => this.explain(details), { once: true });
      $("#decisions").prepend(details);
      while ($("#decisions").childElementCount > 5) $("#decisions").lastElementChild.remove();
    }
  },

  /** The recorded explanation: each criterion with what was observed and what was required. */
  async explain(details) {
    const answer = await fetch(`/v1/products/demo/decisions/${encodeURIComponent(details.dataset.id)}`).catch(() => null);
    if (!answer || !answer.ok) return;
    const decision = await answer.json();
    const leaves = [];
    const walk = (node) => (node && node.conditions ? node.conditions.forEach(walk) : node && leaves.push(node));
    walk(decision.criteria);
    const mark = { true: "✓", false: "✗" };
    const show = (value) => (value === null || value === undefined ? "–" : typeof value === "object" ? JSON.stringify(value) : String(value).replace(location.origin, ""));
    const line = (sign, ...text) => el("li", {}, el("span", {}, sign), el("span", {}, ...text));
    details.append(el("ul", { class: "findings" },
      ...leaves.map((f) => line(mark[f.verdict] || "?", `${f.name || f.type.replaceAll("_", " ")}: `, el("code", {}, show(f.observed)), " (required ", el("code", {}, show(f.required)), ")")),
      ...(decision.gates || []).filter((g) => !g.open).map((g) => line("✗", `gate ${g.gate.replaceAll("_", " ")}: ${REASONS[g.reason] || g.reason}`)),
      decision.config_revision ? line("§", "config ", el("code", {}, decision.config_revision)) : null));
  },
};

// --- begin ------------------------------------------------------------------------------------------

wireProduct();
route();
draw();
loadGuides();
// nudgeledger.js may come before or after this file; the queue is there in both cases.
wireGuide();
setInterval(() => panel.refresh(), 1000);
setInterval(() => panel.tick(), 250);
document.addEventListener("visibilitychange", () => panel.refresh());
panel.clear();

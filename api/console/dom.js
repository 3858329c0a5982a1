// Elements without markup: whatever is shown was sent by somebody, so text can only ever become text.

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element. `properties`: attributes; `on`: listeners; `data`: data attributes; `vars`: CSS variables. */
export function h(tag, properties, ...children) {
  return fill(document.createElement(tag), properties, children);
}

/** An SVG element. */
export function s(tag, properties, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [type, listener] of Object.entries(value)) element.addEventListener(type, listener);
    else if (name === "data") Object.assign(element.dataset, value);
    else if (name === "vars") for (const [key, said] of Object.entries(value)) element.style.setProperty(`--${key}`, said);
    else if (name === "value" && "value" in element) element.value = value;
    else if (name === "checked") element.checked = Boolean(value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    if (Array.isArray(child)) append(element, child);
    else element.append(child instanceof Node ? child : String(child));
  }
}

/** Puts these children in place of what the element holds. */
export function put(element, ...children) {
  element.replaceChildren();
  append(element, children);
  return element;
}

/** Text of users, kept apart from the writing direction around it. */
export function said(text, properties) {
  return h("bdi", { class: "said", ...properties }, text ?? "");
}

/** Runs `work` once nobody has called for `wait` milliseconds. */
export function settled(work, wait) {
  let timer = 0;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...given), wait);
  };
}

/** Runs `work` at once and then at most every `wait` milliseconds, with a last call for whoever came between. */
export function throttled(work, wait) {
  let timer = 0;
  let again = false;
  const run = () => {
    again = false;
    timer = setTimeout(() => {
      timer = 0;
      if (again) run();
    }, wait);
    work();
  };
  return () => {
    if (timer) again = true;
    else run();
  };
}

/** Tells those who do not see the page. */
export function announce(text) {
  document.getElementById("said").textContent = text;
}

// Light or dark: as the system says, unless somebody chose. Only the choice is kept, in this browser.

const KEY = "nudgeledger.theme";
const CHOICES = ["system", "light", "dark"];

function kept() {
  try {
    const choice = localStorage.getItem(KEY);
    return CHOICES.includes(choice) ? choice : "system";
  } catch {
    return "system"; // storage is closed: then nothing is kept
  }
}

export function theme() {
  return document.documentElement.dataset.theme ?? "system";
}

function apply(choice) {
  if (choice === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = choice;
}

/** The next choice after the present one, kept; its name. */
export function turn() {
  const choice = CHOICES[(CHOICES.indexOf(theme()) + 1) % CHOICES.length];
  apply(choice);
  try {
    localStorage.setItem(KEY, choice);
  } catch {
    // it holds until the page is closed
  }
  return choice;
}

apply(kept());

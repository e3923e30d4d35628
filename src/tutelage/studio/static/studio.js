// Keys, drafts, ranking and the clock. Every page works without this file: plain forms do the same, with the mouse or Tab.
"use strict";
(() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
  const visible = (element) => element.getClientRects().length > 0;
  const writes = (element) => element.matches("textarea, select, input:not([type=radio], [type=checkbox])");
  let active = 0, lastActive = Date.now(), lastTick = Date.now(), localTimer, serverTimer, shownKey, erased = false;

  // Keys: an element with data-key does what it does when that key is pressed.
  function candidates(key) {
    const current = $("[data-card].current");
    return $$(`[data-key="${CSS.escape(key)}"]`).filter((element) => {
      const card = element.closest("[data-card]");
      return (!card || card === current || key === "x") && (visible(element) || element.matches("input")) && !element.disabled;
    });
  }
  function use(element) {
    if (element.matches("summary")) {
      element.click();
      const details = element.parentElement;
      if (details.open) $("input:not([type=hidden]), textarea", details)?.focus();
    } else if (element.matches("textarea")) {
      element.focus();
      element.setSelectionRange(element.value.length, element.value.length);
    } else if (element.matches("input")) {
      element.click();
      if (!element.matches(".unfold")) element.focus({ preventScroll: true });
    } else element.click();
  }
  document.addEventListener("keydown", (event) => {
    lastActive = Date.now();
    const target = event.target, task = $("#task");
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      const form = target.form ?? task;
      if (form && form.method === "post") { event.preventDefault(); submit(form); }
      return;
    }
    if (event.key === "Escape" && writes(target)) { target.blur(); return; }
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || writes(target) || $("dialog[open]")) return;
    if (document.body.dataset.shortcuts === "off") return;
    if (event.key === "Enter") {
      const acts = target.matches("a, button, summary") || target.closest("details, dialog"), button = $("[data-key=Enter]");
      if (acts || !button) return;
      event.preventDefault();
      if (button.form === task && task) submit(task); else button.click();
      return;
    }
    if (event.key === "j" || event.key === "k") { if (moveMark(event.key === "j" ? 1 : -1)) { event.preventDefault(); return; } }
    const found = candidates(event.key);
    if (!found.length) return;
    event.preventDefault();
    if (event.key === "x") { const open = !found[0].checked; found.forEach((box) => { box.checked = open; }); return; }
    use(found[0]);
    const card = found[0].closest("[data-card]");
    if (card && found[0].matches("[type=radio]")) nextUnranked(card);
  });
  function submit(form) {
    const button = form.id ? $(`button.primary[form="${form.id}"]`) : null;
    form.requestSubmit(button && !button.name ? button : undefined);
  }

  // Ranking: one card has the mark; numbers rank it; the arrows beside the numbers move its rank by one.
  const cards = () => $$("[data-card]");
  function mark(card, scroll = true) {
    cards().forEach((other) => other.classList.toggle("current", other === card));
    if (card && scroll) card.scrollIntoView({ block: "nearest", behavior: "smooth" });
  }
  function moveMark(by) {
    const all = cards();
    if (!all.length) return false;
    const at = all.findIndex((card) => card.classList.contains("current"));
    mark(all[Math.max(0, Math.min(all.length - 1, at + by))]);
    document.activeElement?.blur();
    return true;
  }
  function nextUnranked(card) {
    const all = cards(), from = all.indexOf(card), others = [...all.slice(from + 1), ...all.slice(0, from)];
    const next = others.find((other) => !$("input[type=radio]:checked", other)) ?? others[0];
    if (next) { mark(next); document.activeElement?.blur(); }
  }
  function showOrder() {
    const order = $("#order");
    if (!order) return;
    const ranks = cards().map((card) => Number($(".ranks input:checked", card)?.value ?? 0));
    const groups = [...new Set(ranks.filter(Boolean))].sort((a, b) => a - b)
      .map((rank) => ranks.map((r, i) => (r === rank ? order.dataset.letters[i] : "")).filter(Boolean).join(" = "));
    order.textContent = groups.join("  >  ") || document.body.dataset.unranked;
  }
  document.addEventListener("focusin", (event) => {
    const card = event.target.closest?.("[data-card]");
    if (card) mark(card, false);
  });
  document.addEventListener("click", (event) => {
    lastActive = Date.now();
    const move = event.target.closest("[data-move]");
    if (move) {
      const inputs = $$("input[type=radio]", move.parentElement), at = inputs.findIndex((input) => input.checked);
      const to = at < 0 ? (Number(move.dataset.move) < 0 ? 0 : inputs.length - 1) : at + Number(move.dataset.move);
      if (inputs[to]) { inputs[to].checked = true; inputs[to].dispatchEvent(new Event("change", { bubbles: true })); }
    }
    const pop = event.target.closest(".pop summary")?.parentElement;
    if (pop && !pop.open) requestAnimationFrame(() => pop.scrollIntoView({ block: "nearest" }));     // it opens at the end of the page
    const opens = event.target.closest("[data-opens]");
    if (opens) { listKeys(); $("#" + opens.dataset.opens).showModal(); }
    const sheet = event.target.closest("[data-sheet]");
    if (sheet && !event.ctrlKey && !event.metaKey) { event.preventDefault(); openSheet(sheet.href); }
  });

  async function openSheet(url) {
    const dialog = $("#sheet");
    try {
      const response = await fetch(url, { headers: { "HX-Request": "true" } });
      if (!response.ok) throw new Error(response.status);
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      $("#sheet-body").replaceChildren(...($(".guidelines", page)?.childNodes ?? page.body.childNodes));
      dialog.showModal();
      $("h2", dialog).focus();
    } catch { location.href = url; }
  }
  function listKeys() {
    const seen = new Map($$("[data-tells]").map((element) => [element.dataset.tells, element.textContent]));
    for (const element of $$("[data-key]:not([data-card] [type=radio])")) {
      const label = element.labels?.[0] ?? element, key = element.dataset.key;
      const words = (element.getAttribute("aria-label") ?? label.innerText).replace(/\s+/g, " ").trim();
      if (!seen.has(key)) seen.set(key, ["↵", "Ctrl ↵", key].reduce((said, hint) => said.endsWith(" " + hint) ? said.slice(0, -hint.length - 1) : said, words));
    }
    $("#keys-list").replaceChildren(...[...seen].flatMap(([key, words]) => {
      const dt = document.createElement("dt"), dd = document.createElement("dd"), kbd = document.createElement("kbd");
      kbd.textContent = key; dt.append(kbd); dd.textContent = words;
      return [dt, dd];
    }));
  }

  // Drafts: here at once, on the server a moment later; whichever is newer is shown. All drafted forms of a page are one draft.
  const drafted = () => $$("form[data-draft]");
  const draftKey = () => { const task = $("[data-assignment]"); return task && `tutelage-draft-${task.dataset.assignment}`; };
  const entered = () => drafted().flatMap((form) => [...new FormData(form)]);
  function entries() {
    const kept = {};
    for (const [name, value] of entered()) if (name !== "csrf" && name !== "seconds") (kept[name] ??= []).push(value);
    return kept;
  }
  function keepDraft() {
    const key = draftKey();
    if (!key) return;
    clearTimeout(localTimer); clearTimeout(serverTimer);
    localTimer = setTimeout(keepHere, 150);
    serverTimer = setTimeout(sendDraft, 1200);
  }
  function keepHere() {
    const key = draftKey();
    try { if (key && !erased) localStorage.setItem(key, JSON.stringify({ at: Date.now(), entries: entries() })); } catch { /* full */ }
  }
  async function sendDraft() {
    const [form] = drafted(), said = $("#saved");
    if (!form) return;
    try {
      const response = await fetch(form.dataset.draft, { method: "POST", body: new URLSearchParams(entered()) });
      if (response.status === 401 || response.status === 403) {      // nobody, or somebody who has signed in anew elsewhere
        banner(response.status === 401 ? document.body.dataset.signedOut : document.body.dataset.stale);
        if (said) said.textContent = "";
      } else if (response.status === 503) {                           // the server cannot write: its disk is full, say
        banner(document.body.dataset.unsaved);
        clearTimeout(serverTimer); serverTimer = setTimeout(sendDraft, 10e3);
      } else if (response.status === 410) {
        forget();
        banner(document.body.dataset.erased);
      } else $("#offline")?.remove();
      if (response.ok && said) said.textContent = document.body.dataset.saved;
    } catch { /* it is kept here, and sent with the next change */ }
  }
  function forget() {                                                 // it was erased, and so is what was typed about it, here too
    erased = true;
    clearTimeout(localTimer); clearTimeout(serverTimer);
    if (shownKey) localStorage.removeItem(shownKey);
    for (const key of Object.keys(sessionStorage)) if (key.startsWith("tutelage-report-")) sessionStorage.removeItem(key);
  }
  function restoreDraft() {
    const key = draftKey();
    if (!key) return;
    let draft;
    try { draft = JSON.parse(localStorage.getItem(key)); } catch { /* somebody else's */ }
    if (!draft || draft.at / 1000 <= Number($("[data-assignment]").dataset.draftAt)) return;
    for (const input of drafted().flatMap((form) => [...form.elements])) {
      const values = draft.entries[input.name];
      if (!input.name || input.type === "hidden" || input.tagName === "BUTTON") continue;
      if (input.type === "radio" || input.type === "checkbox") input.checked = Boolean(values?.includes(input.value));
      else if (values) input.value = values[0];
    }
  }
  function forgetOldDrafts() {
    const keep = draftKey();
    try {
      for (const key of Object.keys(localStorage)) {
        if (!key.startsWith("tutelage-draft-") || key === keep) continue;
        if (Date.now() - (JSON.parse(localStorage.getItem(key))?.at ?? 0) > 14 * 86400e3) localStorage.removeItem(key);
      }
    } catch { /* private mode */ }
  }
  const changed = (event) => {
    lastActive = Date.now();
    if (event.target.form?.dataset.draft) { keepDraft(); showOrder(); }
    if (event.target.form?.dataset.report) keepReport(event.target.form);
  };
  document.addEventListener("input", changed);
  document.addEventListener("change", changed);
  document.addEventListener("submit", (event) => { if (event.target.dataset.draft) keepHere(); }, true);

  // A report that has not been sent is kept in this tab alone, with its box open.
  const reportKey = (form) => `tutelage-report-${form.dataset.report}`;
  function keepReport(form) {
    try { if (!erased) sessionStorage.setItem(reportKey(form), form.elements.text.value); } catch { /* full */ }
  }
  function restoreReports() {
    for (const form of $$("[data-report]")) {
      const text = sessionStorage.getItem(reportKey(form));
      if (text) { form.elements.text.value = text; form.parentElement.open = true; }
    }
  }
  // Leaving a page asks first where a text that many will read has not been saved.
  let saving = false;
  document.addEventListener("submit", (event) => { saving = event.target.matches("[data-warns]"); });
  addEventListener("beforeunload", (event) => {
    const unsaved = (area) => area.form.dataset.warns === "always" || area.value !== area.defaultValue;
    if (!saving && $$("[data-warns] textarea").some(unsaved)) event.preventDefault();
  });

  // The clock counts while the page is seen and somebody did something within the last minute.
  setInterval(() => {
    const now = Date.now(), passed = Math.min(2, (now - lastTick) / 1000);
    lastTick = now;
    if (document.visibilityState !== "visible" || now - lastActive > 60e3) return;
    active += passed;
    const clock = $("#clock");
    for (const seconds of $$("main [name=seconds]")) seconds.value = active.toFixed(1);
    if (clock) {
      const minutes = Math.floor((Number(clock.dataset.seconds) + active) / 60), words = `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}`;
      if (clock.textContent !== words) clock.textContent = words;
    }
  }, 1000);
  document.addEventListener("pointermove", () => { lastActive = Date.now(); }, { passive: true });
  document.addEventListener("scroll", () => { lastActive = Date.now(); }, { passive: true });

  function begin(swapped) {
    active = Number($("main [name=seconds]")?.value) || 0; lastActive = lastTick = Date.now();
    for (const seconds of $$("main [name=seconds]")) seconds.value = active.toFixed(1);
    clearTimeout(localTimer); clearTimeout(serverTimer);
    for (const element of $$("[data-move], [data-opens]")) element.hidden = false;
    shownKey = draftKey(); erased = false;
    restoreDraft(); forgetOldDrafts(); restoreReports(); showOrder();
    if (cards().length) mark(cards().find((card) => !$("input[type=radio]:checked", card)) ?? cards()[0], false);
    const alert = $("[role=alert]");
    if (swapped) (alert ?? $("[data-begin]") ?? $("main h1"))?.focus();
    if (alert) alert.tabIndex = -1;
    const title = $("main h1");
    if (swapped && title) document.title = title.textContent.trim();
  }
  const fail = () => banner(document.body.dataset.offline);
  function banner(words) {
    const form = $("#task");
    if (!form || $("#offline")?.textContent === words) return;
    $("#offline")?.remove();
    const note = document.createElement("p");
    Object.assign(note, { id: "offline", className: "alert", textContent: words });
    note.setAttribute("role", "alert");
    form.before(note);
    note.scrollIntoView({ block: "nearest" });
  }
  document.addEventListener("htmx:after:swap", (event) => {
    const told = event.target.closest?.(".pop form");
    if (event.detail.ctx.response.status === 410) forget();
    if (told && event.detail.ctx.response.status < 400) {            // a report is out: nothing may go into its box, or out, once more
      told.reset(); told.parentElement.open = false;
      if (told.dataset.report) sessionStorage.removeItem(reportKey(told));
      $("main h1").focus();
    } else if (!event.target.closest?.(".pop, [data-live]")) begin(true);
  });
  document.addEventListener("htmx:error", fail);
  document.addEventListener("DOMContentLoaded", () => begin(false));
})();

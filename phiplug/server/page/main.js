// Puts the page together: two views, one place to write, and the dialog that asks for the key.

import { Chat } from "./chat.js";
import { Client, Problem } from "./client.js";
import { Compare } from "./compare.js";
import { Settings, offer } from "./settings.js";

const find = (selector) => document.querySelector(selector);

const client = new Client(askForKey);
const settings = new Settings(find("#settings"));
const views = {
  "#chat": { element: find("#chat-view"), sender: new Chat(find("#chat-view"), client) },
  "#compare": { element: find("#compare-view"), sender: new Compare(find("#compare-view"), client) },
};
const composer = find("#composer");
const prompt = composer.elements.prompt;
let running = null; // the AbortController of what is being answered

function current() {
  return views[location.hash] ?? views["#chat"];
}

function showView() {
  for (const [hash, view] of Object.entries(views)) {
    view.element.hidden = view !== current();
    const link = find(`nav a[href="${hash}"]`);
    if (view === current()) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

/** Fills the lists of engines; the second engine of a comparison is another one where there is one. */
async function loadEngines() {
  const engines = await client.engines();
  const [chat, first, second] = document.querySelectorAll(".engine select");
  offer(chat, engines, 0);
  offer(first, engines, 0);
  offer(second, engines, 1);
}

async function send() {
  const asked = settings.read();
  const text = prompt.value;
  if (running || !asked || !text.trim()) return;
  setRunning(new AbortController());
  find("#problem").textContent = "";
  prompt.value = "";
  try {
    if (!find(".engine select").options.length) await loadEngines();
    giveBack(await current().sender.send(text, asked, running.signal, speak));
  } catch (error) {
    giveBack(text);
    complain(error);
  } finally {
    setRunning(null);
  }
}

/** Puts a prompt that came to nothing back, unless something else was written meanwhile. */
function giveBack(text) {
  prompt.value ||= text;
}

function setRunning(controller) {
  running = controller;
  const [sendButton, stopButton] = composer.querySelectorAll("button");
  const hadFocus = document.activeElement === sendButton || document.activeElement === stopButton;
  sendButton.hidden = running !== null;
  stopButton.hidden = running === null;
  if (hadFocus) prompt.focus(); // a hidden button would lose it
}

function complain(error) {
  find("#problem").textContent = `error: ${error.message}`;
}

let unspoken = "";

/** Tells screen readers what was written, a sentence at a time: tokens are no words. */
function speak(text) {
  unspoken += text;
  const end = unspoken.search(/[.!?:;]\s[^]*$|\n[^]*$/);
  if (end < 0) return;
  const sentence = document.createElement("p");
  sentence.textContent = unspoken.slice(0, end + 1);
  unspoken = unspoken.slice(end + 1);
  if (sentence.textContent.trim()) find("#spoken").append(sentence);
}

/** Returns a promise of a key that a person types. */
function askForKey(refused) {
  const dialog = find("#key");
  const field = dialog.querySelector("input");
  dialog.querySelector(".problem").textContent = refused ? "error: the server refused this key" : "";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve, reject) => {
    const close = () => {
      const key = field.value;
      field.value = "";
      if (dialog.returnValue === "use") resolve(key);
      else reject(new Problem("this server needs a key"));
    };
    dialog.addEventListener("close", close, { once: true });
  });
}

composer.addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
composer.querySelector(".stop").addEventListener("click", () => running?.abort());
prompt.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !find("#key").open) running?.abort();
});
find("#chat-view .new").addEventListener("click", () => {
  running?.abort();
  views["#chat"].sender.clear();
  prompt.focus();
});
window.addEventListener("hashchange", showView);
showView();
loadEngines().catch(complain);

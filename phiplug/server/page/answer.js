// One answer on the page: its text as it comes, and how fast it comes. Text is always inserted as text.

const REFRESH_MS = 150; // figures that change more often cannot be read
const SIGNS = { "": "ends here", "\n": "↵" }; // for what could not be seen

/** Clones a template of the page that holds one element. */
export function cloned(name) {
  return document.getElementById(name).content.firstElementChild.cloneNode(true);
}

export class Answer {
  element = cloned("answer");
  text = "";
  /** How it ended: "stop", "length", "stopped" by a person, "failed", or null as long as it goes on. */
  ended = null;
  #tail = new Text();
  #figures = new Figures();
  #shown = 0;

  constructor(who) {
    this.who = who;
    this.#part(".who").textContent = who;
    this.#part(".text").append(this.#tail);
  }

  /** Whether the model itself ended it, or the bound that was asked for. */
  get isWhole() {
    return this.ended === "stop" || this.ended === "length";
  }

  /** Shows the pieces of an answer, and calls `grown(text)` after each of them; a failure is shown, not thrown. */
  async follow(pieces, signal, grown) {
    this.element.classList.add("growing");
    this.#figures.begin();
    let finish = null;
    try {
      for await (const piece of pieces) {
        finish = piece.finish ?? finish;
        this.#add(piece);
        if (piece.text) grown(piece.text);
      }
      this.ended = finish;
    } catch (error) {
      this.ended = signal.aborted ? "stopped" : "failed";
      if (!signal.aborted) this.#part(".problem").textContent = `error: ${error.message}`;
    }
    this.element.classList.remove("growing");
    this.#part(".figures").textContent = this.summary();
  }

  /** Says what was measured, and why the answer is over where that is not plain. */
  summary() {
    const empty = this.isWhole && !this.text ? "an empty answer" : null;
    const why = { length: "cut off after max tokens", stopped: "stopped" }[this.ended] ?? empty;
    return [...this.#figures.words(), ...(why ? [why] : [])].join(" · ");
  }

  /** Marks the character at `position`, or the end of the text where there is none. */
  mark(position) {
    const rest = this.#tail.splitText(position);
    const mark = document.createElement("mark");
    const character = [...rest.data].slice(0, 1).join("");
    rest.deleteData(0, character.length);
    mark.textContent = character;
    if (character.trim() === "") mark.dataset.sign = SIGNS[character] ?? "␣";
    rest.before(mark);
    this.#tail = rest;
  }

  #add({ text, usage }) {
    this.text += text;
    this.#tail.appendData(text);
    this.#figures.add(text, usage);
    if (performance.now() - this.#shown < REFRESH_MS) return;
    this.#shown = performance.now();
    this.#part(".figures").textContent = this.summary();
  }

  #part(selector) {
    return this.element.querySelector(selector);
  }
}

/** Measures an answer here, at the reader's end. As long as it grows, one piece of text counts as one token. */
class Figures {
  #began = 0;
  #first = 0;
  #last = 0;
  #tokens = 0;

  begin() {
    this.#began = performance.now();
  }

  add(text, usage) {
    if (text) {
      this.#last = performance.now();
      this.#first ||= this.#last;
      this.#tokens += 1;
    }
    if (usage) this.#tokens = usage.completion_tokens;
  }

  words() {
    if (!this.#first) return [];
    const seconds = (this.#last - this.#first) / 1000;
    const rate = seconds > 0 && this.#tokens > 1 ? [`${digits((this.#tokens - 1) / seconds)} tokens/s`] : [];
    const first = ((this.#first - this.#began) / 1000).toFixed(2);
    return [`first token after ${first} s`, `${this.#tokens} tokens`, ...rate];
  }
}

function digits(number) {
  return number.toFixed(number < 100 ? 1 : 0);
}

// One prompt to two engines, and the first character where their answers differ.

import { Answer } from "./answer.js";
import { withSystem } from "./settings.js";

export class Compare {
  #client;
  #view;
  #columns;
  #answers = [];
  #equal = 0; // so many UTF-16 units are known to be equal
  #differ = false;

  constructor(view, client) {
    this.#client = client;
    this.#view = view;
    this.#columns = [...view.querySelectorAll(".column")];
  }

  /** Asks both engines, shows the answers and tells `speak` the outcome; returns the prompt where neither answered. */
  async send(prompt, { system, sampling }, signal, speak) {
    const messages = withSystem(system, [{ role: "user", content: prompt }]);
    const seed = Math.floor(Math.random() * 2 ** 32);
    const shared = { seed, ...sampling, messages };
    this.#begin(`${prompt} (seed ${shared.seed})`);
    const asking = this.#columns.map((column, index) => async () => {
      const request = { ...JSON.parse(column.querySelector("select").value), ...shared };
      await this.#answers[index].follow(this.#client.answer(request, signal), signal, () => this.#judge());
      this.#judge();
    });
    if (this.#view.querySelector(".in-turn").checked) {
      for (const ask of asking) await ask();
    } else {
      await Promise.all(asking.map((ask) => ask()));
    }
    this.#conclude();
    for (const answer of this.#answers) speak(`${answer.who}: ${answer.summary()}\n`);
    return this.#answers.every((answer) => answer.ended === "failed") ? prompt : "";
  }

  #begin(asked) {
    this.#view.querySelector(".asked").textContent = asked;
    this.#say("");
    this.#equal = 0;
    this.#differ = false;
    this.#answers = this.#columns.map((column) => {
      const answer = new Answer(column.querySelector("select").selectedOptions[0].label);
      column.querySelector(".place").replaceChildren(answer.element);
      return answer;
    });
  }

  #judge() {
    if (this.#differ) return;
    const [one, other] = this.#answers;
    this.#equal = equalUnits(one.text, other.text, this.#equal);
    const shortest = Math.min(one.text.length, other.text.length);
    if (this.#equal === shortest) {
      const over = this.#answers.filter((answer) => answer.isWhole && answer.text.length === shortest);
      if (one.text.length === other.text.length || !over.length) return; // what comes may still be equal
    }
    this.#differ = true;
    this.#answers.forEach((answer) => answer.mark(this.#equal));
    this.#say(`The answers differ from character ${[...one.text.slice(0, this.#equal)].length + 1} on.`);
  }

  #conclude() {
    if (this.#differ) return;
    const whole = this.#answers.every((answer) => answer.isWhole);
    this.#say(whole ? "The answers are equal." : "The answers are equal as far as both go.");
  }

  #say(verdict) {
    this.#view.querySelector(".verdict").textContent = verdict;
  }
}

/** Returns how far two texts are equal, from a place on up to which they are; never in the middle of a character. */
function equalUnits(one, other, from) {
  let at = from;
  while (at < one.length && one[at] === other[at]) at += 1;
  const isInside = at > 0 && /[\uDC00-\uDFFF]/.test(one[at] ?? "") && /[\uD800-\uDBFF]/.test(one[at - 1]);
  return isInside ? at - 1 : at;
}

// The settings that all answers share.

export class Settings {
  #details;
  #form;

  constructor(details) {
    this.#details = details;
    this.#form = details.querySelector("form");
    details.open = matchMedia("(min-width: 60rem)").matches;
    this.#form.addEventListener("submit", (event) => event.preventDefault());
  }

  /** Returns {system, sampling}, or null where a field is wrong and has said so. */
  read() {
    if (!this.#form.checkValidity()) this.#details.open = true; // what is closed cannot say anything
    if (!this.#form.reportValidity()) return null;
    const numbers = [...this.#form.querySelectorAll("input")].filter((input) => input.value !== "");
    return {
      system: this.#form.elements.system.value.trim(),
      sampling: Object.fromEntries(numbers.map((input) => [input.name, input.valueAsNumber])),
    };
  }
}

/** Returns a conversation's messages, after the system prompt where there is one. */
export function withSystem(system, messages) {
  return system ? [{ role: "system", content: system }, ...messages] : messages;
}

/** Fills a list with engines; an option's value is {model, backend} as JSON. */
export function offer(select, engines, chosen) {
  const options = engines.map(({ model, backend, state }) => {
    const name = `${model} · ${backend}${state === "ready" ? "" : ` (${state})`}`;
    return new Option(name, JSON.stringify({ model, backend }));
  });
  select.replaceChildren(...options);
  select.selectedIndex = Math.min(chosen, options.length - 1);
}

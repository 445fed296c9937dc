// A conversation with one engine.

import { Answer, cloned } from "./answer.js";
import { withSystem } from "./settings.js";

const NEAR_END_PX = 150; // who has scrolled up by more than this is reading, and is not moved

export class Chat {
  #client;
  #engine;
  #log;
  #messages = [];

  constructor(view, client) {
    this.#client = client;
    this.#engine = view.querySelector("select");
    this.#log = view.querySelector(".log");
  }

  /** Forgets the conversation. */
  clear() {
    this.#messages = [];
    this.#log.replaceChildren();
  }

  /** Asks, shows the answer and tells `speak` what comes; returns the prompt where it came to nothing. */
  async send(prompt, { system, sampling }, signal, speak) {
    const messages = this.#messages; // of this conversation: a new chat may begin meanwhile
    const answer = new Answer(this.#engine.selectedOptions[0].label);
    const question = cloned("question");
    question.querySelector(".text").textContent = prompt;
    this.#log.append(question, answer.element);
    this.#log.scrollTop = this.#log.scrollHeight;

    const asked = { role: "user", content: prompt };
    const said = withSystem(system, [...messages, asked]);
    const request = { ...JSON.parse(this.#engine.value), ...sampling, messages: said };
    await answer.follow(this.#client.answer(request, signal), signal, (text) => {
      speak(text);
      this.#keepUp();
    });
    this.#keepUp();
    speak("\n");
    if (answer.ended === "failed" || !answer.text) {
      question.classList.add("void"); // it is no part of the conversation
      return answer.ended === "stop" ? "" : prompt;
    }
    messages.push(asked, { role: "assistant", content: answer.text });
    return "";
  }

  #keepUp() {
    const log = this.#log;
    if (log.scrollHeight - log.scrollTop - log.clientHeight < NEAR_END_PX) log.scrollTop = log.scrollHeight;
  }
}

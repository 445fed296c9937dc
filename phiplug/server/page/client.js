// Asks the server: for its engines, and for answers as they are streamed. It knows nothing of the page.

/** What a person is told in one line. */
export class Problem extends Error {
  constructor(message) {
    super(message.replace(/\s+/g, " ").trim());
  }
}

export class Client {
  #key = ""; // here alone: in no storage and no cookie
  #asking = null;
  #askForKey;

  /** `askForKey(refused)` returns a promise of a key; `refused` says whether one was tried already. */
  constructor(askForKey) {
    this.#askForKey = askForKey;
  }

  /** Returns one {model, backend, state} for each backend of each model that is served. */
  async engines() {
    const { data } = await (await this.#ask("v1/models")).json();
    return data.flatMap(({ id, backends }) =>
      Object.entries(backends).map(([backend, { state }]) => ({ model: id, backend, state })),
    );
  }

  /** Yields an answer's pieces, {text, finish, usage}: `finish` comes with the last text, `usage` after it. */
  async *answer(request, signal) {
    const body = JSON.stringify({ ...request, stream: true, stream_options: { include_usage: true } });
    const response = await this.#ask("v1/chat/completions", { method: "POST", body, signal });
    for await (const data of events(response)) {
      if (data === "[DONE]") return;
      const { error, choices, usage } = JSON.parse(data);
      if (error) throw new Problem(error.message);
      const choice = choices[0];
      yield { text: choice?.delta.content ?? "", finish: choice?.finish_reason, usage };
    }
    throw new Problem("the connection ended before the answer did");
  }

  async #ask(path, options = {}) {
    for (;;) {
      const sent = this.#key;
      const headers = { "content-type": "application/json", ...(sent && { authorization: `Bearer ${sent}` }) };
      const response = await reached(fetch(path, { ...options, headers, credentials: "omit", cache: "no-store" }));
      if (response.ok) return response;
      if (response.status !== 401) throw await problemOf(response);
      if (sent === this.#key) this.#key = await this.#newKey(sent !== "");
    }
  }

  /** Asks once, however many requests need the key. */
  #newKey(refused) {
    this.#asking ??= this.#askForKey(refused).finally(() => {
      this.#asking = null;
    });
    return this.#asking;
  }
}

/** Yields the data of server-sent events; comments are passed over. */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ""; ; ) {
    const { value, done } = await reached(reader.read());
    if (done) return;
    const found = (rest + value).split("\n\n");
    rest = found.pop();
    for (const event of found) {
      if (event.startsWith("data: ")) yield event.slice("data: ".length);
    }
  }
}

/** Browsers call every failure of the network a TypeError, each in words of its own. */
async function reached(promise) {
  try {
    return await promise;
  } catch (error) {
    throw error instanceof TypeError ? new Problem("the server cannot be reached") : error;
  }
}

async function problemOf(response) {
  const body = await response.json().catch(() => null);
  return new Problem(body?.error?.message ?? `the server answered ${response.status} ${response.statusText}`);
}

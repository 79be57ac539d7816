/**
 * What programs do with the Node SDK, each once:
 * `node scenarios.mjs FOLDER_WITH_NODE_MODULES MODEL_URL SCRIPTED_URL`.
 *
 * Prints a JSON line for each scenario: its name, what it saw, and the error if it failed. Node's
 * stream helper refuses every order of events that it does not know, so that it ends at all says much.
 */
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const [folder, modelUrl, scriptedUrl] = process.argv.slice(2);
const OpenAI = createRequire(`${folder}/`)("openai");

const WEATHER = {
  type: "function",
  function: {
    name: "get_weather",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
};
const LISBON = 'call get_weather {"city": "Lisbon"}';
const PORTO = 'call get_weather {"city": "Porto"}';
const HOOKS = [
  ...["run", "messageCreated", "messageDone", "runStepCreated", "runStepDone", "toolCallCreated"],
  ...["toolCallDelta", "toolCallDone", "textCreated", "textDelta", "textDone", "imageFileDone"],
  ...["connect", "end", "error", "abort"],
];

const collapsed = (names) => names.filter((name, at) => name !== names[at - 1]);
const textOf = (message) => message.content.map((part) => part.text?.value ?? "").join("");
const at = (run) => ({ thread_id: run.thread_id });

const asking = (says) => ({ model: "gpt-4o", messages: [{ role: "user", content: says }] });

async function started(client, says = "Hello!", assistant = {}) {
  const { id } = await client.beta.assistants.create({ model: "gpt-4o", ...assistant });
  const thread = await client.beta.threads.create({ messages: [{ role: "user", content: says }] });
  return [thread.id, { assistant_id: id }];
}

/** Listen to everything, and hold the helper's snapshots to what its deltas said. */
function recorded(stream) {
  const notes = { hooks: [], events: [], texts: [], calls: [] };
  for (const hook of HOOKS) stream.on(hook, () => notes.hooks.push(hook));
  stream.on("event", ({ event }) => notes.events.push(event));
  stream.on("messageCreated", (message) => {
    assert.deepEqual(message.content, []);
    notes.texts.push("");
  });
  stream.on("textDelta", (delta, snapshot) => {
    notes.texts.push(notes.texts.pop() + (delta.value ?? ""));
    assert.equal(snapshot.value, notes.texts.at(-1));
    assert.equal(textOf(stream.currentMessageSnapshot()), notes.texts.at(-1));
  });
  stream.on("textDone", (content) => assert.equal(content.value, notes.texts.at(-1)));
  stream.on("toolCallDone", (call) =>
    notes.calls.push([call.id, call.function?.arguments ?? call.code_interpreter?.input]),
  );
  return notes;
}

/** Await the end of a stream: the final run, which must be the one that is kept, and the notes. */
async function toTheEnd(client, stream) {
  const notes = recorded(stream);
  const run = await stream.finalRun();
  await stream.done();
  assert.deepEqual(await client.beta.threads.runs.retrieve(run.id, at(run)), run);
  const messages = await stream.finalMessages();
  assert.deepEqual(messages.map(textOf), notes.texts);
  assert.deepEqual(await messagesOf(client, run, messages), messages);
  return { run, notes, steps: await stream.finalRunSteps() };
}

/** The kept messages of a run that the stream showed, oldest first. */
async function messagesOf(client, run, shown) {
  const page = await client.beta.threads.messages.list(run.thread_id, {
    run_id: run.id,
    order: "asc",
  });
  const ids = shown.map((message) => message.id);
  return page.data.filter((message) => ids.includes(message.id));
}

function outputsFor(run, ...outputs) {
  const calls = run.required_action.submit_tool_outputs.tool_calls;
  assert.equal(calls.length, outputs.length);
  return calls.map((call, index) => ({ tool_call_id: call.id, output: outputs[index] }));
}

const onModel = {
  async files(client) {
    const sent = await OpenAI.toFile(Buffer.from("One."), "naïve.txt");
    const expires_after = { anchor: "created_at", seconds: 3600 };
    const made = await client.files.create({ file: sent, purpose: "vision", expires_after });
    assert.equal(made.expires_at, made.created_at + 3600);
    assert.deepEqual(await client.files.waitForProcessing(made.id), made);
    const content = await (await client.files.content(made.id)).text();
    const listed = [];
    for await (const file of client.files.list({ limit: 1 })) listed.push(file.id);
    assert.deepEqual(listed, [made.id]);
    const { deleted } = await client.files.delete(made.id);
    const missing = await client.files.retrieve(made.id).catch((error) => error);
    return [made.filename, made.bytes, made.status, content, deleted, missing.status];
  },

  async uploads(client) {
    const described = { mime_type: "text/plain", purpose: "vision", filename: "b.txt" };
    const upload = await client.uploads.create({ bytes: 6, ...described });
    const part_ids = [];
    for (const text of ["abc", "def"]) {
      const data = await OpenAI.toFile(Buffer.from(text), "part");
      part_ids.push((await client.uploads.parts.create(upload.id, { data })).id);
    }
    const { status, file } = await client.uploads.complete(upload.id, { part_ids });
    const content = await (await client.files.content(file.id)).text();
    await client.files.delete(file.id);
    return [upload.status, status, file.filename, content];
  },

  async vectorStores(client) {
    const stores = client.vectorStores;
    const store = await stores.create({ name: "Animals" });
    const dog = await OpenAI.toFile(Buffer.from("Dogs bark."), "dog.txt");
    const cat = await OpenAI.toFile(Buffer.from("Cats purr."), "cat.txt");
    const one = await stores.files.uploadAndPoll(store.id, dog);
    const batch = await stores.fileBatches.uploadAndPoll(store.id, { files: [cat] });
    const ids = [];
    for await (const file of stores.files.list(store.id, { limit: 1 })) ids.push(file.id);
    const found = (await stores.search(store.id, { query: "Dogs bark." })).data[0];
    const content = (await stores.files.content(one.id, { vector_store_id: store.id })).data;
    const { file_counts } = await stores.retrieve(store.id);
    await stores.files.delete(one.id, { vector_store_id: store.id });
    const { deleted } = await stores.delete(store.id);
    for (const id of ids) await client.files.delete(id);
    const seen = [found.filename, found.content[0].text, content[0].text];
    return [one.status, batch.status, ids.length, seen, file_counts.completed, deleted];
  },

  async runStreamed(client) {
    const stream = client.beta.threads.runs.stream(...(await started(client)));
    const { run, notes, steps } = await toTheEnd(client, stream);
    assert.notEqual(notes.texts[0].trim(), "");
    return [collapsed(notes.events), collapsed(notes.hooks), run.status, steps.length];
  },

  async createAndPoll(client) {
    const run = await client.beta.threads.runs.createAndPoll(...(await started(client)));
    const steps = await client.beta.threads.runs.steps.list(run.id, at(run));
    assert.ok(run.usage.total_tokens > 0);
    return [run.status, steps.data.map((step) => [step.type, step.status])];
  },

  async createAndRunStreamed(client) {
    const { id } = await client.beta.assistants.create({ model: "gpt-4o" });
    const thread = { messages: [{ role: "user", content: "Hello!" }] };
    const stream = client.beta.threads.createAndRunStream({ assistant_id: id, thread });
    const { run, notes } = await toTheEnd(client, stream);
    return [collapsed(notes.events), run.status];
  },

  async rawStream(client) {
    const [thread, params] = await started(client);
    const events = [];
    const stream = await client.beta.threads.runs.create(thread, { ...params, stream: true });
    for await (const { event } of stream) events.push(event);
    return collapsed(events);
  },

  async pages(client) {
    const { id } = await client.beta.threads.create();
    for (const content of ["1", "2", "3", "4", "5"]) {
      await client.beta.threads.messages.create(id, { role: "user", content });
    }
    const seen = [];
    for await (const message of client.beta.threads.messages.list(id, { limit: 2, order: "asc" })) {
      seen.push(textOf(message));
    }
    return seen;
  },

  async errors(client) {
    const refusals = [];
    for (const ask of [
      () => client.beta.threads.retrieve("thread_none"),
      () => client.beta.assistants.create({ model: "no-such-model" }),
      () => client.models.delete("gpt-4o"),
    ]) {
      const error = await ask().then(() => assert.fail("no error"), (problem) => problem);
      assert.ok(error instanceof OpenAI.APIError, String(error));
      assert.match(error.requestID, /^req_[0-9a-f]{32}$/);
      refusals.push([error.constructor.name, error.status, error.type, error.param, error.code]);
    }
    return refusals;
  },
};

const onScript = {
  async toolRound(client) {
    const { runs } = client.beta.threads;
    const asking = runs.stream(...(await started(client, LISBON, { tools: [WEATHER] })));
    const { run, notes, steps } = await toTheEnd(client, asking);
    const [call] = run.required_action.submit_tool_outputs.tool_calls;
    assert.deepEqual(notes.calls, [[call.id, call.function.arguments]]);
    assert.equal(steps[0].step_details.tool_calls[0].function.arguments, call.function.arguments);
    const going = runs.submitToolOutputsStream(run.id, {
      ...at(run),
      tool_outputs: outputsFor(run, "sunny"),
    });
    const after = await toTheEnd(client, going);
    return [
      [collapsed(notes.events), collapsed(notes.hooks), run.status],
      [collapsed(after.notes.events), collapsed(after.notes.hooks), after.run.status],
      after.notes.texts,
    ];
  },

  async parallelCalls(client) {
    const { runs } = client.beta.threads;
    const params = await started(client, `${LISBON}\n${PORTO}`, { tools: [WEATHER] });
    const { run, notes } = await toTheEnd(client, runs.stream(...params));
    const calls = run.required_action.submit_tool_outputs.tool_calls;
    assert.deepEqual(notes.calls, calls.map((call) => [call.id, call.function.arguments]));
    const done = await runs.submitToolOutputsAndPoll(run.id, {
      ...at(run),
      tool_outputs: outputsFor(run, "warm", "cold"),
    });
    return [notes.calls.map((call) => call[1]), done.status];
  },

  async fileSearch(client) {
    const file = await client.files.create({
      file: await OpenAI.toFile(Buffer.from("Dogs bark at the moon every night."), "dogs.md"),
      purpose: "assistants",
    });
    const tools = [{ type: "file_search" }];
    const [thread, body] = await started(client, "Hello!", { tools });
    await client.beta.threads.messages.create(thread, {
      role: "user",
      content: 'call file_search {"query": "When do dogs bark?"}',
      attachments: [{ file_id: file.id, tools }],
    });
    const { run, notes, steps } = await toTheEnd(client, client.beta.threads.runs.stream(thread, body));
    const { data } = await client.beta.threads.messages.list(thread, { run_id: run.id });
    const { value, annotations } = data[0].content[0].text;
    for (const { text, start_index, end_index, file_citation } of annotations) {
      assert.equal(value.slice(start_index, end_index), text);
      assert.equal(file_citation.file_id, file.id);
    }
    const [found] = steps[0].step_details.tool_calls[0].file_search.results;
    await client.files.delete(file.id);
    return [run.status, collapsed(notes.events), notes.texts, annotations.length, found.file_name];
  },

  async codeInterpreter(client) {
    const tools = [{ type: "code_interpreter" }];
    const code = "write list.txt\nprint sandbox:/mnt/data/list.txt\ndraw";
    const says = `call code_interpreter ${JSON.stringify({ code })}`;
    const params = await started(client, says, { tools });
    const { run, notes, steps } = await toTheEnd(client, client.beta.threads.runs.stream(...params));
    assert.deepEqual(notes.calls.map((call) => call[1]), [code]);
    const { data } = await client.beta.threads.messages.list(run.thread_id, { run_id: run.id });
    const [figure, text] = data[0].content;
    const [logs, image] = steps[0].step_details.tool_calls[0].code_interpreter.outputs;
    assert.equal(image.image.file_id, figure.image_file.file_id);
    const [link] = text.text.annotations;
    assert.equal(text.text.value.slice(link.start_index, link.end_index), link.text);
    const file = await client.files.retrieve(link.file_path.file_id);
    for (const id of [file.id, figure.image_file.file_id]) await client.files.delete(id);
    const seen = [logs, file.filename, file.purpose, link.text, notes.texts];
    return [run.status, collapsed(notes.events), collapsed(notes.hooks), seen];
  },

  async textBeforeACall(client) {
    const params = await started(client, `say Let me look.\n${LISBON}`, { tools: [WEATHER] });
    const stream = client.beta.threads.runs.stream(...params);
    const { run, notes } = await toTheEnd(client, stream);
    return [collapsed(notes.events), run.status, notes.texts];
  },

  async cancelledWhileItTalks(client) {
    const params = await started(client, "say One, two, three\nhold");
    const stream = client.beta.threads.runs.stream(...params);
    stream.on("textDelta", (_, { value }) => {
      const run = stream.currentRun();
      if (value === "One, two, three") client.beta.threads.runs.cancel(run.id, at(run));
    });
    const { run, notes } = await toTheEnd(client, stream);
    return [collapsed(notes.events), run.status, notes.texts];
  },

  async cutOff(client) {
    const [thread, params] = await started(client, `say ${"abcdefg ".repeat(10)}`);
    const limited = { ...params, max_completion_tokens: 16 };
    const stream = client.beta.threads.runs.stream(thread, limited);
    const { run, notes } = await toTheEnd(client, stream);
    return [collapsed(notes.events), run.status, run.incomplete_details, notes.texts];
  },

  async failed(client) {
    const params = await started(client, "say Well, I\nfail");
    const stream = client.beta.threads.runs.stream(...params);
    const { run, notes } = await toTheEnd(client, stream);
    return [collapsed(notes.events), run.status, run.last_error.code, notes.texts];
  },

  async readerThatLeaves(client) {
    const params = await started(client, "say One two three four.");
    const stream = client.beta.threads.runs.stream(...params);
    let run;
    for await (const event of stream) {
      run = event.data;
      break;
    }
    const ended = await client.beta.threads.runs.poll(run.id, at(run));
    const messages = await client.beta.threads.messages.list(run.thread_id, { run_id: run.id });
    return [ended.status, messages.data.map(textOf)];
  },

  async chatStreamed(client) {
    const text = "One, 二, ☃ and four.";
    const stream = client.chat.completions.stream({
      ...asking(`say ${text}`),
      stream_options: { include_usage: true },
    });
    const pieces = [];
    stream.on("content", (delta) => pieces.push(delta));
    const final = await stream.finalChatCompletion();
    assert.equal(pieces.join(""), text);
    assert.equal((await client.chat.completions.create(asking(`say ${text}`))).usage.total_tokens,
      final.usage.total_tokens);
    return [final.choices[0].message.content, final.choices[0].finish_reason];
  },

  async chatTools(client) {
    const cities = [];
    const weather = ({ city }) => {
      cities.push(city);
      return `sunny in ${city}`;
    };
    const runner = client.chat.completions.runTools({
      ...asking(`${LISBON}\n${PORTO}`),
      stream: true,
      tools: [{ type: "function", function: { ...WEATHER.function, parse: JSON.parse, function: weather } }],
    });
    return [await runner.finalContent(), cities, runner.messages.map(({ role }) => role)];
  },

  async chatRefused(client) {
    const pieces = [];
    try {
      const stream = await client.chat.completions.create({ ...asking("say Well, I\nfail"), stream: true });
      for await (const chunk of stream) pieces.push(chunk.choices[0].delta.content ?? "");
    } catch (error) {
      assert(error instanceof OpenAI.APIError);
      return [pieces.join(""), error.error.message];
    }
    throw new Error("there was no error");
  },
};

async function play(scenario, client) {
  try {
    return { name: scenario.name, saw: await scenario(client) };
  } catch (error) {
    return { name: scenario.name, failure: error.stack ?? String(error) };
  }
}

for (const [scenarios, baseURL] of [
  [onModel, modelUrl],
  [onScript, scriptedUrl],
]) {
  const client = new OpenAI({ baseURL, apiKey: "local", maxRetries: 0, timeout: 30_000 });
  for (const scenario of Object.values(scenarios)) {
    console.log(JSON.stringify(await play(scenario, client)));
  }
}

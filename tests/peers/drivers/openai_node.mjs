// The stock Node client: every way to give a file, batches, chats, embeddings, uploads, errors.
import assert from "node:assert/strict";
import fs from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const modules = process.env.PEER_NODE_MODULES;
const require = createRequire(`${modules}/none.js`);
const { default: OpenAI, toFile } = await import(pathToFileURL(require.resolve("openai")).href);
const { version } = JSON.parse(fs.readFileSync(`${modules}/openai/package.json`, "utf8"));

const MODEL = process.env.PEER_MODEL;
const EMBEDDING_MODEL = process.env.PEER_EMBEDDING_MODEL;
const client = new OpenAI();
const messages = [{ role: "user", content: "Say hello." }];
const tell = (facts) => console.log(JSON.stringify(facts));

const line = (number, body = {}) =>
  JSON.stringify({
    custom_id: `r${number}`,
    method: "POST",
    url: "/v1/chat/completions",
    body: { model: MODEL, messages, max_tokens: 8, ...body },
  }) + "\n";
const CONTENT = line(1) + line(2);
fs.writeFileSync("input.jsonl", CONTENT);

const forms = {
  "a read stream": () => fs.createReadStream("input.jsonl"),
  "a File": () => new File([CONTENT], "input.jsonl"),
  "a Blob, named": () => toFile(new Blob([CONTENT]), "input.jsonl"),
  "a Buffer, named": () => toFile(Buffer.from(CONTENT), "input.jsonl"),
  "bytes, named": () => toFile(new TextEncoder().encode(CONTENT), "input.jsonl", { type: "application/jsonl" }),
  "a path opened as a Blob": async () => toFile(await fs.openAsBlob("input.jsonl"), "input.jsonl"),
  "a Blob without a name": async () => toFile(new Blob([CONTENT])),
  "a fetched answer": async () => new Response(CONTENT),
  "a large stream": () => {
    fs.writeFileSync("large.jsonl", line(1, { user: "x".repeat(1000) }).repeat(3000));
    return fs.createReadStream("large.jsonl");
  },
};

const create = async (content = CONTENT) => {
  const file = await client.files.create({ file: await toFile(Buffer.from(content), "input.jsonl"), purpose: "batch" });
  return client.batches.create({
    input_file_id: file.id,
    endpoint: "/v1/chat/completions",
    completion_window: "24h",
    metadata: { who: "node" },
  });
};
const wait = async (id) => {
  for (let turn = 0; turn < 600; turn++) {
    const batch = await client.batches.retrieve(id);
    if (["completed", "failed", "expired", "cancelled"].includes(batch.status)) return batch;
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
  throw new Error("the batch did not end");
};
const chat = (body = {}, options = {}) =>
  client.chat.completions.create({ model: MODEL, messages, max_tokens: 8, ...body }, options);

const checks = {};
for (const [name, form] of Object.entries(forms)) {
  checks[`upload of ${name}`] = async () => {
    const file = await client.files.create({ file: await form(), purpose: "batch" });
    const content = name === "a large stream" ? fs.readFileSync("large.jsonl", "utf8") : CONTENT;
    assert.equal(file.bytes, content.length);
    assert.equal(await (await client.files.content(file.id)).text(), content);
  };
}
Object.assign(checks, {
  "batch from create to output": async () => {
    const batch = await wait((await create()).id);
    assert.equal(batch.status, "completed");
    assert.deepEqual(batch.metadata, { who: "node" });
    const text = await (await client.files.content(batch.output_file_id)).text();
    const rows = text.trimEnd().split("\n").map((row) => JSON.parse(row));
    assert.deepEqual(rows.map((row) => row.custom_id).sort(), ["r1", "r2"]);
    const bytes = await (await client.files.content(batch.output_file_id)).arrayBuffer();
    assert.equal(Buffer.from(bytes).toString(), text);
  },
  "batch is cancelled": async () => {
    const batch = await create(Array.from({ length: 200 }, (_, number) => line(number)).join(""));
    assert.ok(["cancelling", "cancelled"].includes((await client.batches.cancel(batch.id)).status));
    assert.equal((await wait(batch.id)).status, "cancelled");
  },
  "batches.list pages by itself": async () => {
    const made = [await create(), await create(), await create()].map((batch) => batch.id);
    const found = [];
    for await (const batch of client.batches.list({ limit: 1 })) found.push(batch.id);
    for (const id of made) assert.ok(found.includes(id));
    assert.equal(new Set(found).size, found.length);
  },
  "files.list, retrieve, delete": async () => {
    const file = await client.files.create({ file: await toFile(Buffer.from(CONTENT), "a.jsonl"), purpose: "batch" });
    const found = [];
    for await (const other of client.files.list({ limit: 2 })) if (found.push(other.id) >= 10) break;
    assert.ok(found.includes(file.id));
    assert.equal((await client.files.retrieve(file.id)).filename, "a.jsonl");
    assert.equal((await client.files.delete(file.id)).deleted, true);
  },
  "files.waitForProcessing": async () => {
    const file = await client.files.create({ file: await toFile(Buffer.from(CONTENT), "a.jsonl"), purpose: "batch" });
    assert.equal((await client.files.waitForProcessing(file.id, { pollInterval: 100 })).status, "processed");
  },
  "uploads: parts, complete": async () => {
    const upload = await client.uploads.create({
      bytes: CONTENT.length, filename: "big.jsonl", mime_type: "application/jsonl", purpose: "batch",
    });
    const part = async (text) => client.uploads.parts.create(upload.id, { data: await toFile(Buffer.from(text), "part") });
    const parts = [await part(CONTENT.slice(0, 50)), await part(CONTENT.slice(50))];
    const done = await client.uploads.complete(upload.id, { part_ids: parts.map(({ id }) => id) });
    assert.equal(done.status, "completed");
    assert.equal(await (await client.files.content(done.file.id)).text(), CONTENT);
  },
  "uploads: a part that is a stream": async () => {
    const upload = await client.uploads.create({
      bytes: CONTENT.length, filename: "big.jsonl", mime_type: "application/jsonl", purpose: "batch",
    });
    const part = await client.uploads.parts.create(upload.id, { data: fs.createReadStream("input.jsonl") });
    assert.equal((await client.uploads.complete(upload.id, { part_ids: [part.id] })).status, "completed");
  },
  "uploads: cancel": async () => {
    const upload = await client.uploads.create({
      bytes: 3, filename: "a.jsonl", mime_type: "application/jsonl", purpose: "batch",
    });
    assert.equal((await client.uploads.cancel(upload.id)).status, "cancelled");
  },
  chat: async () => assert.ok((await chat()).choices[0].message.content),
  "chat as a stream": async () => {
    let text = "", usage;
    for await (const event of await chat({ stream: true, stream_options: { include_usage: true } })) {
      text += event.choices[0]?.delta.content ?? "";
      usage = event.usage ?? usage;
    }
    assert.ok(text);
    assert.ok(usage.completion_tokens > 0);
  },
  "chat by the stream helper": async () => {
    const stream = client.chat.completions.stream({ model: MODEL, messages, max_tokens: 8 });
    assert.ok((await stream.finalChatCompletion()).choices[0].message.content);
  },
  "chat as a stream that is left early": async () => {
    for await (const _ of await chat({ stream: true, max_tokens: 64 })) break;
    assert.ok((await chat()).choices);
  },
  "withResponse, asResponse": async () => {
    const { data, response, request_id: id } = await chat().withResponse();
    assert.ok(data.choices);
    assert.equal(response.headers.get("x-request-id"), id);
    assert.equal((await chat().asResponse()).status, 200);
  },
  "many at once": async () => {
    const answers = await Promise.all(Array.from({ length: 20 }, () => chat({ max_tokens: 2 })));
    assert.equal(answers.length, 20);
  },
  completions: async () =>
    assert.ok((await client.completions.create({ model: MODEL, prompt: "One", max_tokens: 4 })).choices),
  responses: async () =>
    assert.ok((await client.responses.create({ model: MODEL, input: "Hello", max_output_tokens: 16 })).output_text),
  "responses as a stream": async () => {
    const kinds = [];
    const stream = await client.responses.create({ model: MODEL, input: "Hello", max_output_tokens: 16, stream: true });
    for await (const event of stream) kinds.push(event.type);
    assert.equal(kinds[0], "response.created");
    assert.match(kinds.at(-1), /^response\.(completed|incomplete)$/);
  },
  models: async () => {
    const found = [];
    for await (const model of client.models.list()) found.push(model.id);
    assert.ok(found.includes(MODEL));
    assert.equal((await client.models.retrieve(MODEL)).id, MODEL);
  },
  errors: async () => {
    await assert.rejects(chat({ model: "no-such-model" }), (error) => {
      assert.ok(error instanceof OpenAI.NotFoundError);
      assert.equal(error.code, "model_not_found");
      return true;
    });
    await assert.rejects(chat({ temperature: "hot" }), (error) => {
      assert.ok(error instanceof OpenAI.BadRequestError);
      assert.equal(error.type, "invalid_request_error");
      assert.equal(error.param, "temperature");
      assert.ok(error.requestID);
      return true;
    });
    const stranger = new OpenAI({ apiKey: "sk-bad" });
    await assert.rejects(stranger.models.list(), OpenAI.AuthenticationError);
    await assert.rejects(client.batches.retrieve("batch_nope"), OpenAI.NotFoundError);
  },
  "a connection is kept through errors while a body is sent": async () => {
    const stranger = new OpenAI({ apiKey: "sk-bad", maxRetries: 0 });
    for (let turn = 0; turn < 3; turn++) {
      const file = fs.createReadStream("large.jsonl");
      await assert.rejects(stranger.files.create({ file, purpose: "batch" }), OpenAI.AuthenticationError);
      assert.ok((await client.models.list({ maxRetries: 0 })).data.length);
    }
  },
  "base URL with a slash, organization, project, api-version": async () => {
    const other = new OpenAI({
      baseURL: `${process.env.OPENAI_BASE_URL}/`, organization: "org-1", project: "proj_1", maxRetries: 0,
      defaultQuery: { "api-version": "2024-10-21" }, defaultHeaders: { Connection: "close" },
    });
    assert.ok((await other.models.list()).data.length);
  },
  embeddings: async () => {
    const answer = await client.embeddings.create({ model: EMBEDDING_MODEL, input: ["one", "two"] });
    assert.equal(answer.data.length, 2);
    assert.equal(typeof answer.data[0].embedding[0], "number");
  },
});

tell({ peer: "version", version: `${version} (Node ${process.versions.node.split(".")[0]})` });
for (const [name, run] of Object.entries(checks)) {
  try {
    await run();
    tell({ peer: "check", check: name, ok: true, detail: "" });
  } catch (error) {
    console.error(error);
    tell({ peer: "check", check: name, ok: false, detail: `${error?.name}: ${error?.message}`.slice(0, 2000) });
  }
}
process.exit(0);

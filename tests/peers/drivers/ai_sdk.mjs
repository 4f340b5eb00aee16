// Vercel's AI SDK, by its providers for OpenAI and for servers like it: texts, streams, objects, tools, embeddings.
import assert from "node:assert/strict";
import fs from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const modules = process.env.PEER_NODE_MODULES;
const require = createRequire(`${modules}/none.js`);
const load = async (name) => import(pathToFileURL(require.resolve(name)).href);
const { embed, embedMany, generateText, isStepCount, Output, streamText, tool } = await load("ai");
const { createOpenAI } = await load("@ai-sdk/openai");
const { createOpenAICompatible } = await load("@ai-sdk/openai-compatible");
const { z } = await load("zod");
const { version } = JSON.parse(fs.readFileSync(`${modules}/ai/package.json`, "utf8"));

const MODEL = process.env.PEER_MODEL;
const EMBEDDING_MODEL = process.env.PEER_EMBEDDING_MODEL;
const place = { baseURL: process.env.OPENAI_BASE_URL, apiKey: process.env.OPENAI_API_KEY };
const openai = createOpenAI(place);
const like = createOpenAICompatible({
  ...place, name: "site", includeUsage: true, supportsStructuredOutputs: true,
});
const models = {
  "openai, responses": openai(MODEL),
  "openai, chat": openai.chat(MODEL),
  "openai-compatible": like(MODEL),
};
const common = { prompt: "Say hello.", maxOutputTokens: 16, maxRetries: 0 };
const weather = () =>
  tool({
    description: "The weather of a town.",
    inputSchema: z.object({ town: z.string().max(12) }),
    execute: async ({ town }) => `Sunny in ${town}.`,
  });
const schema = z.object({ town: z.string().max(12), warm: z.boolean() });
const tell = (facts) => console.log(JSON.stringify(facts));

const checks = {};
for (const [name, model] of Object.entries(models)) {
  Object.assign(checks, {
    [`${name}: text`]: async () => {
      const { text, usage } = await generateText({ ...common, model });
      assert.ok(text);
      assert.ok(usage.outputTokens > 0);
    },
    [`${name}: turns, a system prompt, settings`]: async () => {
      const { prompt, ...rest } = common;
      const { text } = await generateText({
        ...rest, model, instructions: "Be short.", temperature: 0.5, topP: 0.9,
        messages: [
          { role: "user", content: [{ type: "text", text: "Say one." }] },
          { role: "assistant", content: "One." },
          { role: "user", content: "Say two." },
        ],
      });
      assert.ok(text);
    },
    [`${name}: a stream`]: async () => {
      const result = streamText({ ...common, model, onError: () => {} });
      let text = "";
      for await (const part of result.textStream) text += part;
      assert.ok(text);
      assert.ok((await result.usage).outputTokens > 0);
    },
    [`${name}: an object by a schema`]: async () => {
      const { output } = await generateText({
        ...common, model, prompt: "The weather in Oslo?", maxOutputTokens: 64, output: Output.object({ schema }),
      });
      assert.equal(typeof output.town, "string");
    },
    [`${name}: a streamed object`]: async () => {
      const result = streamText({
        ...common, model, prompt: "The weather in Oslo?", maxOutputTokens: 64, output: Output.object({ schema }),
        onError: () => {},
      });
      for await (const _ of result.partialOutputStream);
      assert.equal(typeof (await result.output).warm, "boolean");
    },
    [`${name}: a tool that must be called, and its answer`]: async () => {
      const { steps } = await generateText({
        ...common, model, prompt: "The weather in Oslo?", maxOutputTokens: 64, tools: { weather: weather() },
        toolChoice: { type: "tool", toolName: "weather" }, stopWhen: isStepCount(1),
      });
      assert.equal(steps[0].toolCalls[0].toolName, "weather");
      assert.match(steps[0].toolResults[0].output, /^Sunny/);
    },
    [`${name}: a tool that may be called`]: async () => {
      const { steps } = await generateText({
        ...common, model, tools: { weather: weather() }, stopWhen: isStepCount(2),
      });
      assert.ok(steps.length >= 1);
    },
    [`${name}: an error`]: async () => {
      const other = name === "openai, responses" ? openai("no-such-model")
        : name === "openai, chat" ? openai.chat("no-such-model") : like("no-such-model");
      await assert.rejects(generateText({ ...common, model: other }), (error) => {
        assert.equal(error.statusCode, 404);
        assert.match(error.message, /no-such-model/);
        return true;
      });
    },
  });
}
Object.assign(checks, {
  "openai: a completion": async () => assert.ok((await generateText({ ...common, model: openai.completion(MODEL) })).text),
  "openai-compatible: a completion": async () =>
    assert.ok((await generateText({ ...common, model: like.completionModel(MODEL) })).text),
  "openai-compatible: the engine's own fields": async () => {
    const { text } = await generateText({ ...common, model: like(MODEL), providerOptions: { site: { top_k: 5 } } });
    assert.ok(text);
  },
  "openai: embeddings": async () => {
    assert.ok((await embed({ model: openai.embedding(EMBEDDING_MODEL), value: "one" })).embedding.length);
    const { embeddings } = await embedMany({ model: openai.embedding(EMBEDDING_MODEL), values: ["one", "two"] });
    assert.equal(embeddings.length, 2);
  },
  "openai-compatible: embeddings": async () => {
    const { embeddings } = await embedMany({ model: like.embeddingModel(EMBEDDING_MODEL), values: ["one", "two"] });
    assert.equal(embeddings.length, 2);
  },
});

tell({ peer: "version", version });
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

// Asks with OpenAI's SDK, as programs do. Standard input is a JSON list of cases; each is answered with a line of JSON:
// what was taken for the answer (text, finish, calls), or the error that was thrown (error, message, status).
import OpenAI from "openai";
import { text } from "node:stream/consumers";

const QUESTION = "What is the weather in Bern?";
const CHAT = { model: "gpt-sim", messages: [{ role: "user", content: QUESTION }] };
const RESPONSES = { model: "gpt-sim", input: QUESTION };

const ofMessage = (choice) => ({
  text: choice.message.content,
  finish: choice.finish_reason,
  calls: (choice.message.tool_calls ?? []).map((call) => [call.id, call.function.name, call.function.arguments]),
});
const ofResponse = (response) => ({
  text: response.output_text,
  finish: response.status,
  calls: response.output
    .filter((item) => item.type === "function_call")
    .map((item) => [item.call_id, item.name, item.arguments]),
});

const WAYS = {
  async chat_events(client, more) {
    const answer = { text: "", finish: null };
    for await (const chunk of await client.chat.completions.create({ ...CHAT, stream: true, ...more })) {
      for (const choice of chunk.choices) {
        answer.text += choice.delta.content ?? "";
        answer.finish = choice.finish_reason;
      }
    }
    return answer;
  },
  async chat_helper(client, more) {
    const completion = await client.chat.completions.stream({ ...CHAT, ...more }).finalChatCompletion();
    return ofMessage(completion.choices[0]);
  },
  async chat_whole(client, more) {
    return ofMessage((await client.chat.completions.create({ ...CHAT, ...more })).choices[0]);
  },
  async responses_events(client, more) {
    const answer = { text: "", finish: null };
    for await (const event of await client.responses.create({ ...RESPONSES, stream: true, ...more })) {
      if (event.type === "response.output_text.delta") answer.text += event.delta;
      answer.finish = event.type;
    }
    return answer;
  },
  async responses_helper(client, more) {
    return ofResponse(await client.responses.stream({ ...RESPONSES, ...more }).finalResponse());
  },
  async responses_whole(client, more) {
    return ofResponse(await client.responses.create({ ...RESPONSES, ...more }));
  },
};

for (const { way, base_url, fault, retries, more } of JSON.parse(await text(process.stdin))) {
  const client = new OpenAI({
    baseURL: base_url,
    apiKey: "sk-client-key-1234",
    maxRetries: retries ?? 0,
    defaultHeaders: fault ? { "x-sim-fault": fault } : {},
  });
  let result;
  try {
    result = await WAYS[way](client, more ?? {});
  } catch (error) {
    result = { error: error.constructor.name, message: error.message, status: error.status ?? null };
  }
  console.log(JSON.stringify(result));
}

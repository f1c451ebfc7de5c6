import { expect, test } from "bun:test";
import { approvalsCommand } from "./approvals.ts";
import type { Invocation } from "./command.ts";
import { renderEvent } from "./replay.ts";
import { escapeControls, escapedLines, firstLine, harmlessJson, jsonText, type Terminal } from "./terminal.ts";

const hidden = "update accounts set balance = 0 where id = 1 -- ticket 4711\ror balance > 0";

async function approvals(text: string, ...positionals: string[]): Promise<string> {
  const approval = {
    ...{ id: "ap-1", state: "pending", requester: { subject: "rep", email: "rep@example.com" }, target: "db", text },
    ...{ from: ["dba"], expiresAt: "2026-01-31T12:00:00Z", mayDecide: true },
    decisions: [{ decision: "approve", by: { subject: "dora", email: "" }, reason: "fine\x1b[2J" }],
  };
  const answer = () => Response.json(positionals.length === 0 ? { approvals: [approval] } : approval);
  await using server = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: answer });
  let out = "";
  const terminal: Terminal = {
    out: (more) => {
      out += more;
    },
    ...{ err: () => {}, isTTY: false, columns: 100, environment: { SALLYPORT_TOKEN: "t" } },
  };
  const values = { gateway: server.url.origin };
  const invocation: Invocation = { values, positionals, terminal, signal: new AbortController().signal };
  expect(await approvalsCommand.run(invocation)).toBe(0);
  return out;
}

test("a carriage return ends a comment for PostgreSQL: what follows it is on a line of its own, and it is seen", async () => {
  const shown = "update accounts set balance = 0 where id = 1 -- ticket 4711\\r\n    or balance > 0\n";
  expect(await approvals(hidden, "ap-1")).toContain(`${shown}  approved by dora: fine\\x1b[2J\n`);
  const intent = { type: "intent", at: 0, text: hidden, verdict: "allow", rules: [] };
  const terminal: Terminal = { out: () => {}, err: () => {}, isTTY: false, columns: 100, environment: {} };
  expect(renderEvent(terminal, intent)).toContain("-- ticket 4711\\r\n  or balance > 0  [allow]\n");
  expect(escapedLines("a\r\nb\nc\r\rd\r", "")).toBe("a\\r\nb\nc\\r\n\\r\nd\\r");
  // White space to PostgreSQL, and no end of a comment.
  expect(escapedLines("-- a\fb\vc\u0085d\u2028e\u2029f", "")).toBe("-- a\\x0cb\\x0bc\\x85d\\u2028e\\u2029f");
});

test("a list of commands says that there are more lines, and joins none to a comment", async () => {
  for (const text of [hidden, hidden.replace("\r", "\n"), `\n${hidden.replace("\r", "\r\n")}\n`]) {
    const out = await approvals(text);
    expect(out).toContain("(1 of 2 lines) update accounts set balance = 0 where id = 1 -- ticket 4711");
    expect(out).not.toContain("or balance");
  }
  expect(firstLine("\nselect 1;\n")).toBe("select 1;");
});

test("what is invisible, reorders text or drives a terminal is escaped, beyond 16 bits too", () => {
  const invisible =
    "\u00ad \u034f \u061c \u115f \u1160 \u17b4 \u17b5 \u180b \u180f \u200b \u2066 \u3164 \ufe00 \ufe0f \ufeff \uffa0 \ufffa";
  for (const character of ["\x7f", "\x9b", ...invisible.split(" "), "\u{e0001}", "\u{e01ef}"]) {
    expect(escapeControls(`a${character}b`)).toMatch(/^a\\[xu][0-9a-f{}]+b$/);
    for (const json of [jsonText({ a: character }), harmlessJson(JSON.stringify({ a: character }))]) {
      expect(json).toMatch(/^[\x20-\x7e]+$/);
      expect(JSON.parse(json)).toEqual({ a: character });
    }
  }
  expect(escapeControls("Zoë 漢字 😀")).toBe("Zoë 漢字 😀");
  expect(harmlessJson('{"a":"\x1b[2J"}')).toBe('{"a":"\\u001b[2J"}');
});

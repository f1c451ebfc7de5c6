import { expect, test } from "bun:test";
import { renderEvent } from "./replay.ts";
import { processTerminal } from "./terminal.ts";

const terminal = { ...processTerminal(), isTTY: false };

test("the transcript has a command's parameters, what was copied, notices, and what the session is for", () => {
  const intent = { type: "intent", at: 0, verdict: "allow", rules: [], text: "update t set a = $1 where b = $2" };
  expect(renderEvent(terminal, { ...intent, params: ["x\u001b[2J", null] })).toBe(
    "\n00:00:00.000 > update t set a = $1 where b = $2  [allow]\n  $1 = 'x\\x1b[2J'\n  $2 = NULL\n",
  );
  expect(renderEvent(terminal, { type: "copy", direction: "in", data: "1\ta\n2\t\u001b[2J\n" })).toBe(
    "  data from the caller\n  1\\ta\n  2\\t\\x1b[2J\n",
  );
  expect(
    renderEvent(terminal, { type: "notice", at: 0, fields: { S: "WARNING", M: "cut\u001b[2J", H: "go on" } }),
  ).toBe("WARNING:  cut\\x1b[2J\nHINT:  go on\n");
  expect(renderEvent(terminal, { type: "session.context", at: 0, context: { reason: "a\nb", prompt: "" } })).toBe(
    "  reason: a\\nb\n",
  );
  const error = { S: "ERROR", C: "23505", M: "duplicate key", D: "Key (id)=(1) already exists." };
  expect(renderEvent(terminal, { type: "result", at: 0, tag: "", error })).toBe(
    "ERROR:  duplicate key\nDETAIL:  Key (id)=(1) already exists.\n",
  );
});

test("rows beyond the recording's cap are told of, so that those before are not taken for all", () => {
  const unrecorded = { rows: 2_890_507, bytes: 20_233_549, digest: "sha256:00" };
  expect(renderEvent(terminal, { type: "result", at: 0, tag: "SELECT 2927956", rows: 2_927_956, unrecorded })).toBe(
    "  … and 2,890,507 more rows (20,233,549 bytes): counted and hashed, not recorded\nSELECT 2927956\n",
  );
  expect(renderEvent(terminal, { type: "result", at: 0, tag: "COPY 9", rows: 0, unrecorded })).toBe(
    "  … and 20,233,549 more bytes: counted and hashed, not recorded\nCOPY 9\n",
  );
});

test("an approval says who decided, and why where they said so", () => {
  const dora = { subject: "dora", email: "dora@example.com", reason: "not now\u001b[2J" };
  const approval = { id: "ap-1", state: "denied", by: [dora] };
  expect(renderEvent(terminal, { type: "approval", at: 0, approval })).toBe(
    "  ap-1 denied by dora@example.com: not now\\x1b[2J\n",
  );
});

test("a command that was held is told apart from the same one that then went on", () => {
  const intent = { type: "intent", at: 0, verdict: "approve", rules: [], text: "x" };
  expect(renderEvent(terminal, { ...intent, forwarded: false })).toContain("[approve]");
  expect(renderEvent(terminal, { ...intent, forwarded: true })).toContain("[approved]");
});

test("of what policy had permitted and did not run the transcript says why, as one harmless line", () => {
  const refused = { id: "rules.rate", message: "at most 5 commands\u001b[2J in 1 h" };
  expect(renderEvent(terminal, { type: "outcome", at: 0, status: "denied", refused })).toBe(
    "  [denied]\n  rules.rate: at most 5 commands\\x1b[2J in 1 h\n",
  );
  expect(renderEvent(terminal, { type: "outcome", at: 0, status: "denied" })).toBe("");
});

import { expect, test } from "bun:test";
import { renderEvent } from "./replay.ts";
import { processTerminal } from "./terminal.ts";

test("of what policy had permitted and did not run the transcript says why, as one harmless line", () => {
  const terminal = { ...processTerminal(), isTTY: false };
  const refused = { id: "rules.rate", message: "at most 5 commands\u001b[2J in 1 h" };
  expect(renderEvent(terminal, { type: "outcome", at: 0, status: "denied", refused })).toBe(
    "  [denied]\n  rules.rate: at most 5 commands\\x1b[2J in 1 h\n",
  );
  expect(renderEvent(terminal, { type: "outcome", at: 0, status: "denied" })).toBe("");
});

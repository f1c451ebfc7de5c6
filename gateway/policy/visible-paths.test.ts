import { describe, expect, test } from "bun:test";
import type { CommandAnalysis, NowInput } from "./input.ts";
import { type SessionBase, VisibleInput, visibleText } from "./visible-input.ts";
import { parseVisiblePaths } from "./visible-paths.ts";

const now: NowInput = { rfc3339: "2026-01-05T09:00:00Z", weekday: "Monday", hour: 9, time: "09:00" };
const base: SessionBase = {
  identity: { issuer: "i", subject: "s", email: "e", groups: ["a"], kind: "human", claims: { deep: { x: 1, y: 2 } } },
  target: { name: "prod", kind: "postgres", database: "d", labels: { env: "prod" } },
  session: {
    id: "1",
    client: { address: "", application: "" },
    context: { reason: "r", prompt: "", ticket: "", trace: "" },
  },
};
const analysis: CommandAnalysis = {
  kind: "sql",
  fingerprint: "sha256:00",
  complete: true,
  incomplete: [],
  statements: [],
};
const rest = { digest: "sha256:ab", novel: true, params: ["1", null] };
const paths = (...listed: unknown[]) => parseVisiblePaths({ command: listed }, "command");

/** The document that a policy with these paths is given. */
function seen(...listed: unknown[]): unknown {
  const parsed = paths(...listed);
  if (parsed === undefined) return undefined;
  const visible = new VisibleInput(parsed);
  const text = visibleText(
    visible.sessionMembers(base),
    visible.analysisMembers(analysis),
    visible.restMembers(rest),
    visible.nowMembers(now),
  );
  return JSON.parse(text);
}

describe("visible paths", () => {
  test("of the time, hour and weekday are values like others; the second and the whole are not known", () => {
    expect(paths("input.now.hour", "input.now.weekday")?.now).toEqual(["hour", "weekday"]);
    for (const path of ["input.now", "input.now.rfc3339", "input.now.minute", ["input", "now", 1], "input.now._"]) {
      expect(paths("input.now.hour", path)).toBeUndefined();
    }
  });
  test("that are absent, empty or reach input whole are not known", () => {
    for (const listed of [["input"], [], ["input.identity", 7], [["input", 1]]]) {
      expect(paths(...listed)).toBeUndefined();
    }
    expect(parseVisiblePaths(undefined, "command")).toBeUndefined();
  });
});

describe("the visible part of an input", () => {
  test("has what is listed and nothing else", () => {
    expect(
      seen("input.identity.groups", "input.identity.claims.deep.x", "input.command.complete", "input.now.hour"),
    ).toEqual({
      identity: { groups: ["a"], claims: { deep: { x: 1 } } },
      command: { complete: true },
      now: { hour: 9 },
    });
  });
  test("has a value whole where its path ends, whichever order the paths come in", () => {
    const whole = { identity: base.identity, command: {} };
    expect(seen("input.identity", "input.identity.claims.deep.x")).toEqual(whole);
    expect(seen("input.identity.claims.deep.x", "input.identity")).toEqual(whole);
    expect(seen("input.command")).toEqual({ command: { ...analysis, ...rest } });
  });
  test("has a list whole where a path goes on into it, and leaves out what is not there", () => {
    expect(seen("input.identity.groups.first", "input.identity.absent", "input.command.digest")).toEqual({
      identity: { groups: ["a"] },
      command: { digest: rest.digest },
    });
  });
});

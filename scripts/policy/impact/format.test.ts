/** What reports make of hostile recordings, and what the gate says. */
import { expect, test } from "bun:test";
import type { ChangeKind } from "./changes.ts";
import { asJson, asMarkdown, asText } from "./format.ts";
import { gate, type Impact } from "./outcome.ts";
import { codeSpan, oneLine } from "./printable.ts";
import type { Change } from "./replay.ts";
import { addChange, addDrift, addUnreadable, emptyTally, type Tally } from "./tally.ts";

const hostile = [
  "select 1 -- ` @octocat `` </details><img src=x onerror=alert(1)> ```",
  "\n\n# Approved\n\n</details>\n@security/team please merge [x](javascript:alert(1)) | $`x`$ \u001b[31m\u202e",
].join("");
const change = (over: Partial<Change> = {}): Change => ({
  session: "s1",
  command: 1,
  at: 1_000,
  who: "ann@example.com",
  agent: false,
  target: "demo",
  text: "select 1",
  fingerprint: "f",
  base: { verdict: "deny", rules: [{ id: "access.class", message: "" }], masks: [], diagnostics: "canonical" },
  head: { verdict: "allow", rules: [], masks: [], diagnostics: "canonical" },
  kinds: [{ kind: "allow", rules: ["access.class"], masks: [] }],
  possible: [],
  ...over,
});

function impactOf(fill: (tally: Tally) => void): Impact {
  const tally = emptyTally();
  tally.commands = 10;
  fill(tally);
  const side = { name: "main", digest: `sha256:${"0".repeat(64)}` };
  return { base: side, head: side, since: undefined, tally, elapsedMs: 1 };
}

const controls = /[\p{Cc}\p{Cf}]/u;
/** Markdown without what is inside code spans, which renders as itself. */
const outsideCode = (markdown: string) => markdown.replace(/(?<!`)(`+)(?!`)[^\n]*?(?<!`)\1(?!`)/g, "");

test("whatever a recording holds stays inside its code span", () => {
  const impact = impactOf((tally) => {
    addChange(tally, change({ text: hostile, who: hostile, target: hostile, session: hostile }));
    addChange(tally, change({ command: 2, kinds: [{ kind: "allow", rules: [hostile], masks: [] }] }));
    addUnreadable(tally, hostile, hostile);
    addDrift(tally, { session: hostile, command: 1, revision: hostile, recorded: hostile, again: hostile });
  });
  const markdown = asMarkdown(impact, { exitCode: 0, reasons: [] }, 5);
  const bare = outsideCode(markdown);
  for (const wrong of ["octocat", "@", "onerror", "<img", "Approved", "javascript", "please merge"]) {
    expect(bare).not.toContain(wrong);
  }
  expect(markdown.replaceAll("\n", "")).not.toMatch(controls);
  expect(bare.match(/<\/details>/g)).toHaveLength(bare.match(/<details>/g)?.length ?? -1);
  expect(markdown.split("\n").filter((line) => line.startsWith("#"))).toEqual([
    "### Policy impact on recorded commands",
  ]);
  const text = asText(impact, { exitCode: 0, reasons: [] }, 5);
  expect(text.replaceAll("\n", "")).not.toMatch(controls);
  expect(JSON.parse(asJson(impact, { exitCode: 0, reasons: [] }, 5)).kinds[0].kind).toBe("allow");
});

test("a code span is fenced by more backticks than it holds, on one line", () => {
  expect(codeSpan("a `` b\n``` c", 100)).toBe("```` a `` b ``` c ````");
  expect(codeSpan("", 10)).toBe("` (empty) `");
  expect(oneLine("a\u0007\u202eb\r\n\u2028c", 100)).toBe("a\\u{7}\\u{202e}b c");
  expect(oneLine("x".repeat(50), 10)).toBe(`${"x".repeat(10)}…`);
});

test("a comment stays under its host's limit and says what it leaves out", () => {
  const impact = impactOf((tally) => {
    for (let n = 0; n < 400; n++) {
      const kinds = (["allow", "unmask", "deny", "mask", "hold", "release", "errors"] as ChangeKind[]).map((kind) => ({
        kind,
        rules: [`rule ${n} ${"r".repeat(150)}`],
        masks: [],
      }));
      addChange(tally, change({ command: n + 1, fingerprint: String(n), text: `select ${"x".repeat(400)}`, kinds }));
    }
  });
  const markdown = asMarkdown(impact, { exitCode: 0, reasons: [] }, 100);
  expect(markdown.length).toBeLessThan(65_000);
  expect(markdown).toContain("left out for its length");
});

test("like commands are counted together, by the earliest of them", () => {
  const tally = impactOf((one) => {
    addChange(one, change({ command: 5, at: 2_000, text: "later" }));
    addChange(one, change({ command: 4, at: 1_000, text: "earlier" }));
    addChange(one, change({ command: 6, at: 3_000, fingerprint: "g", who: "bob" }));
  }).tally;
  expect(tally.kinds.allow).toMatchObject({ commands: 3, identities: { "ann@example.com": 2, bob: 1 } });
  const examples = Object.values(tally.kinds.allow?.examples ?? {});
  expect(examples.map(({ commands, text }) => [commands, text])).toEqual([
    [2, "earlier"],
    [1, "select 1"],
  ]);
});

test("the gate fails on the kinds that were named, and on anything that could hide one", () => {
  const codes = (fill: (tally: Tally) => void, ...failOn: ChangeKind[]) => gate(impactOf(fill), failOn).exitCode;
  expect(codes((tally) => addChange(tally, change()), "allow", "unmask")).toBe(3);
  expect(codes((tally) => addChange(tally, change()), "unmask")).toBe(0);
  expect(codes((tally) => addChange(tally, change()))).toBe(0);
  expect(codes((tally) => addChange(tally, change({ command: 0 })), "allow")).toBe(3);
  expect(codes((tally) => addUnreadable(tally, "s", "broken"), "allow")).toBe(4);
  expect(codes((tally) => addUnreadable(tally, "s", "broken"))).toBe(0);
  expect(codes((tally) => Object.assign(tally, { drifted: 1 }), "allow")).toBe(4);
  expect(codes((tally) => Object.assign(tally, { paramsCut: 1 }), "allow")).toBe(4);
  expect(codes((tally) => Object.assign(tally, { commands: 0 }), "allow")).toBe(4);
  expect(codes((tally) => addChange(tally, change({ kinds: [], possible: ["unmask"] })), "unmask")).toBe(4);
  expect(codes((tally) => addChange(tally, change({ kinds: [], possible: ["mask"] })), "unmask")).toBe(0);
});

import { afterAll, beforeEach, expect, test } from "bun:test";
import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadBundle } from "../../gateway/policy/bundle.ts";
import { mergeData } from "../../gateway/policy/data.ts";
import type { CommandAnalysis } from "../../gateway/policy/input.ts";
import { Policy } from "../../gateway/policy/policy.ts";
import { defaultBundle } from "./build.ts";
import { copySources, policiesFolder } from "./sources.ts";
import { digestOfSource, readSources, seesTimeOnlyByWindows } from "./time-seen.ts";

const folder = mkdtempSync(join(tmpdir(), "sallyport-time-"));
beforeEach(() => copySources(folder));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("the shipped rules see the time only by windows, as their sources were read", () => {
  // A change of these two wants another look: is a rule without a window still the same at all times?
  for (const [name, digest] of Object.entries(readSources)) {
    expect([name, digestOfSource(policiesFolder, name)]).toEqual([name, digest]);
  }
  expect(seesTimeOnlyByWindows(policiesFolder)).toBe(true);
});

test("a source that speaks of it, reaches into the rules or changes them makes the time be seen", () => {
  const writes = join(folder, "writes/writes.rego");
  appendFileSync(writes, "\n# now is only a comment\n");
  expect(seesTimeOnlyByWindows(folder)).toBe(true);
  for (const line of [
    "late if input.now.hour > 20",
    'late if object.get(input, "now", {}).hour > 20',
    "late if data.sallyport.rules._open({})",
  ]) {
    copySources(folder);
    appendFileSync(writes, `\n${line}\n`);
    expect([line, seesTimeOnlyByWindows(folder)]).toEqual([line, false]);
  }
  for (const name of Object.keys(readSources)) {
    copySources(folder);
    appendFileSync(join(folder, name), "\n");
    expect([name, seesTimeOnlyByWindows(folder)]).toEqual([name, false]);
    rmSync(join(folder, name));
    expect([name, seesTimeOnlyByWindows(folder)]).toEqual([name, false]);
  }
  copySources(folder);
  writeFileSync(join(folder, "late.rego"), "package sallyport.late\n\nlate if input.now.hour > 20\n");
  expect(seesTimeOnlyByWindows(folder)).toBe(false);
  rmSync(join(folder, "late.rego"));
});

const analysis: CommandAnalysis = Object.freeze({
  ...{ kind: "sql" as const, fingerprint: "sha256:00", complete: true, incomplete: [] },
  statements: [
    {
      ...{ verb: "SELECT", class: "read" as const, relations: [], columns: [], functions: [] },
      ...{ bounded: true, limit: null, features: [] },
    },
  ],
});
const at = (time: string) => ({
  rfc3339: `2026-01-05T${time}:00Z`,
  weekday: "Monday",
  hour: Number(time.slice(0, 2)),
  time,
});

async function judged(rules: Record<string, unknown>, ...times: string[]) {
  const bundle = await loadBundle({ bundle: defaultBundle });
  const windows = { noon: { from: "12:00", to: "13:00" } };
  const policy = new Policy({ ...bundle, data: mergeData(bundle.data, { windows, rules } as never) });
  const session = policy.forSession({
    identity: { issuer: "i", subject: "s", email: "", groups: ["analysts"], kind: "human", claims: {} },
    target: { name: "demo", kind: "postgres", database: "d", labels: {} },
    session: {
      ...{ id: "1", client: { address: "", application: "" } },
      context: { reason: "", prompt: "", ticket: "", trace: "" },
    },
  });
  return times.map((time) => {
    const { decision, cached } = session.judge(analysis, { digest: "sha256:d", novel: false, params: [] }, at(time));
    return `${decision.verdict}${cached ? ", cached" : ""}`;
  });
}

test("without a rule that has a window a decision is cached for all times, with one for each", async () => {
  expect(await judged({}, "11:59", "12:00")).toEqual(["allow", "allow, cached"]);
  const deny = "at table";
  expect(await judged({ other: { deny, on: { classes: ["ddl"] } } }, "11:59", "12:00")).toEqual([
    "allow",
    "allow, cached",
  ]);
  for (const [rule, before, then] of [
    [{ within: "noon", deny }, "allow", "deny"],
    [{ outside: "noon", deny }, "deny", "allow"],
    [{ within: "noon", for: { groups: ["others"] }, deny }, "allow", "allow"],
  ] as const) {
    expect(await judged({ late: rule }, "11:59", "12:00", "12:00")).toEqual([before, then, `${then}, cached`]);
  }
});

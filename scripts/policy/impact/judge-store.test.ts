/** Recorded commands judged again: exactly what a change affects, and what cannot be said. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createClient } from "@libsql/client";
import { type Bundle, loadBundle } from "../../../gateway/policy/bundle.ts";
import { Policy } from "../../../gateway/policy/policy.ts";
import { buildBundle, defaultBundle } from "../build.ts";
import { DryAnalyser } from "../dry-analyser.ts";
import { policiesFolder } from "../sources.ts";
import { catalogOf } from "../subject.ts";
import { bruteForce, differences, foundChanges } from "./brute-force.ts";
import { generateStore } from "./generated-store.ts";
import type { Setup } from "./judge-sessions.ts";
import { judgeStore } from "./judge-store.ts";
import type { Change } from "./replay.ts";

const folder = mkdtempSync(join(tmpdir(), "sallyport-impact-"));
const file = join(folder, "store.db");
let base: Bundle;

setDefaultTimeout(60_000);

async function withData(name: string, yaml: string): Promise<Bundle> {
  const data = join(folder, `${name}.yaml`);
  writeFileSync(data, yaml);
  return await loadBundle({ bundle: defaultBundle, data });
}

beforeAll(async () => {
  base = await loadBundle({ bundle: defaultBundle });
  await generateStore({
    file,
    policy: new Policy(base),
    commands: 1_200,
    commandsPerSession: 40,
    statements: 400,
    seed: 7,
  });
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function judge(over: Partial<Setup> & { readonly head: Bundle }, store = file) {
  const changes: Change[] = [];
  const rest = { base, pastData: {}, catalogs: {}, store: { url: `file:${store}` }, sinceMs: 0, eachChange: true };
  let judged = 0;
  const report = {
    progress: (commands: number) => {
      judged += commands;
    },
    changes: (some: readonly Change[]) => void changes.push(...some),
  };
  const tally = await judgeStore({ ...rest, ...over }, report, 2);
  expect(judged).toBe(tally.commands);
  return { tally, changes };
}

/** A copy of the store, changed by hand. */
async function tampered(name: string, ...statements: readonly string[]): Promise<string> {
  const copy = join(folder, `${name}.db`);
  const client = createClient({ url: `file:${file}` });
  await client.execute(`vacuum into '${copy}'`);
  client.close();
  const changed = createClient({ url: `file:${copy}` });
  for (const statement of statements) await changed.execute(statement);
  changed.close();
  return copy;
}

test("a change of data affects exactly the commands that evaluating each of them says", async () => {
  const head = await withData(
    "roles",
    "agents: { hold: [ddl, novel] }\nlabels: { pii: { mask: hash } }\ntargets: { demo: { access: { oncall: [read] } } }\n",
  );
  const { tally, changes } = await judge({ head });
  const slow = await bruteForce({ store: `file:${file}`, base, head });
  expect(tally.commands).toBe(1_200);
  expect(slow.commands).toBe(1_200);
  expect(slow.changed.size).toBeGreaterThan(50);
  expect(differences(foundChanges(changes), slow.changed)).toEqual([]);
  expect(tally.changed).toBe(slow.changed.size);
  expect(Object.keys(tally.kinds).sort()).toEqual(["deny", "other", "unmask"]);
  expect(tally.kinds.unmask?.columns).toHaveProperty(["public.customers.email: partial → hash"]);
  expect([tally.drifted, tally.unreadableSessions, tally.possibleCommands]).toEqual([0, 0, 0]);
  // Approved ones are recorded twice.
  expect(tally.reproduced).toBeGreaterThan(1_200);
});

test("with other labels and another rule, a catalog makes it exact through the view", async () => {
  const copy = join(folder, "policies");
  cpSync(policiesFolder, copy, { recursive: true });
  const rego = join(copy, "writes/writes.rego");
  const before = readFileSync(rego, "utf8");
  const after = before.replace(
    'statement.class == "write"',
    'statement.class == "write"\n\tstatement.verb == "DELETE"',
  );
  expect(after).not.toBe(before);
  writeFileSync(rego, after);
  writeFileSync(join(folder, "rego.tar.gz"), buildBundle(copy));
  const data = join(folder, "labels.yaml");
  const labels = "{ public.customers.email: [], public.customers.name: [pii], public.orders.product: [secret] }";
  writeFileSync(data, `targets: { demo: { labels: ${labels} } }\n`);
  const head = await loadBundle({ bundle: join(folder, "rego.tar.gz"), data });
  const analyser = new DryAnalyser(catalogOf("demo", "."), new Policy(head).labelsOf("demo"));
  const analyseForHead = (text: string) => analyser.analyse(text).command;
  const slow = await bruteForce({ store: `file:${file}`, base, head, analyseForHead });
  const exact = await judge({ head, catalogs: { demo: "demo" } });
  expect(differences(foundChanges(exact.changes), slow.changed)).toEqual([]);
  expect(exact.tally.possibleCommands).toBe(0);
  const views = exact.changes.filter(({ text }) => text.includes("customer_orders"));
  expect(views.length).toBeGreaterThan(0);
  expect(Object.keys(exact.tally.kinds)).toEqual(expect.arrayContaining(["allow", "deny", "mask", "unmask"]));

  // Without one it says which commands are not certain, and the others are right.
  const guessed = await judge({ head });
  expect(guessed.tally.possibleCommands).toBeGreaterThan(0);
  const unsure = new Set(
    guessed.changes.filter(({ possible }) => possible.length > 0).map((one) => `${one.session} ${one.command}`),
  );
  expect(differences(foundChanges(guessed.changes), slow.changed).filter((key) => !unsure.has(key))).toEqual([]);
});

test("the same revision changes nothing, and each decision comes again", async () => {
  const { tally, changes } = await judge({ head: base });
  expect(changes).toEqual([]);
  expect([tally.changed, tally.drifted]).toEqual([0, 0]);
});

test("a decision that does not come again under its own revision is a drift", async () => {
  const head = await withData("drift", "agents: { hold: [ddl] }\n");
  // What claims to be the recorded revision judges otherwise.
  const { tally } = await judge({ base: { ...head, revision: base.revision }, head });
  expect(tally.drifted).toBeGreaterThan(0);
  expect(tally.drifts[0]).toMatchObject({ revision: base.revision.digest });
  expect(tally.drifts[0]?.recorded).not.toBe(tally.drifts[0]?.again);
});

test("a session that head does not open is reported, and its commands are denied", async () => {
  const head = await withData("closed", "targets: { demo: { access: { oncall: [], dba: [] } } }\n");
  const { tally, changes } = await judge({ head });
  const opening = changes.filter(({ command }) => command === 0);
  expect(opening.length).toBe(tally.kinds.deny?.sessions ?? -1);
  expect(opening.length).toBeGreaterThan(0);
  const [first] = opening;
  const theirs = changes.filter(({ session, command }) => session === first?.session && command > 0);
  expect(theirs.length).toBeGreaterThan(0);
  expect(theirs.every(({ head: { rules } }) => rules[0]?.id === "access.target")).toBe(true);
});

test("recordings that were changed, shortened or taken out, and open ones, are named; the rest goes on", async () => {
  const client = createClient({ url: `file:${file}` });
  const { rows } = await client.execute("select id from sessions where commands > 5 order by opened_at, id limit 6");
  client.close();
  const [changed, shortened, garbled, removed, reopened, unlisted] = rows.map(({ id }) => String(id));
  const store = await tampered(
    "tampered",
    `update sessions set email = 'someone@example.com' where id = '${changed}'`,
    `delete from recording_chunks where session = '${shortened}'`,
    `update recording_chunks set data = x'28b52ffd00' where session = '${garbled}'`,
    `delete from sessions where id = '${removed}'`,
    `delete from seals where session in ('${reopened}', '${unlisted}')`,
    `update sessions set closed_at = null where id = '${reopened}'`,
  );
  const { tally } = await judge({ head: base }, store);
  expect(tally.openSessions).toBe(1);
  const problems = new Map(tally.unreadable.map(({ session, problem }) => [session, problem]));
  expect(problems.get(changed ?? "")).toContain("says another identity");
  expect(problems.get(shortened ?? "")).toContain("0 are there");
  expect(problems.get(garbled ?? "")).toContain("event 1 cannot be read");
  expect(problems.get("(sealed)")).toContain("1 sealed sessions are no longer in the store");
  expect(problems.get(unlisted ?? "")).toContain("has no seal");
  expect(problems.has(reopened ?? "")).toBe(false);
  expect(tally.commands).toBeGreaterThan(800);
});

test("what was judged before a time is passed over, in sessions that were open then, too", async () => {
  const client = createClient({ url: `file:${file}` });
  const { rows } = await client.execute("select max(opened_at) as latest from sessions");
  client.close();
  const latest = Number(rows[0]?.latest);
  const all = await judge({ head: base });
  const some = await judge({ head: base, sinceMs: latest });
  const none = await judge({ head: base, sinceMs: Date.now() + 1_000 });
  expect(all.tally.commands).toBe(1_200);
  expect(some.tally.commands).toBeLessThan(1_200);
  expect(some.tally.commands).toBeGreaterThan(0);
  expect(none.tally.commands).toBe(0);
});

test("labels of a revision whose data is not at hand are said to be assumed", async () => {
  const own = await withData("other", "labels: { pii: { mask: 'null' } }\n");
  const head = await withData("next", "labels: { pii: { mask: hash } }\n");
  const without = await judge({ base: own, head });
  expect(without.tally.labelsAssumed).toBe(1_200);
  const known = await judge({ base: own, head, pastData: { [base.revision.digest]: base.data } });
  expect(known.tally.labelsAssumed).toBe(0);
  expect(known.tally.changed).toBeGreaterThan(0);
});

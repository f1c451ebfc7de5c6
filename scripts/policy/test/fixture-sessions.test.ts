import { expect, test } from "bun:test";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readRuleLocations } from "../rule-locations.ts";
import { policiesFolder } from "../sources.ts";
import { loadPolicy } from "../subject.ts";
import { fixturePaths, readFixture } from "./fixture-file.ts";
import { runFixture, type SessionResult } from "./fixture-sessions.ts";
import { failed, failureText, unfiredRules } from "./report.ts";

const locations = readRuleLocations(policiesFolder);

async function run(over: Record<string, unknown>, paths: readonly string[] = []): Promise<SessionResult[]> {
  const policy = await loadPolicy({}, over);
  const results: SessionResult[] = [];
  for (const path of fixturePaths(paths)) {
    for await (const one of runFixture(policy, readFixture(path))) results.push(one);
  }
  return results;
}

function failures(results: readonly SessionResult[]): string[] {
  return results.flatMap((one) => failed(one).map((step) => failureText(one, step, locations, policiesFolder)));
}

function fixture(yaml: string): string {
  const path = join(mkdtempSync(join(tmpdir(), "sallyport-fixture-")), "given.yaml");
  writeFileSync(path, yaml);
  return path;
}

test("the fixture sessions hold, and every rule of the sources decides some step of them", async () => {
  const results = await run({});
  expect(failures(results)).toEqual([]);
  expect(results.reduce((total, { steps }) => total + steps.length - 1, 0)).toBeGreaterThan(60);
  expect(unfiredRules(results, locations)).toEqual([]);
});

test("a failure names fixture, session, step, rule, expected, got and the places of the rules", async () => {
  const path = fixture(`sessions:
  one who reads:
    as: { email: ann@example.com, groups: [analysts] }
    target: demo
    steps:
      - { run: select 1, expect: allow }
      - run: select ssn from customers
        expect: deny writes.unbounded
        masks: { public.customers.ssn: hash }
`);
  const [text, ...more] = failures(await run({}, [path]));
  expect(more).toEqual([]);
  expect(text).toMatch(/given\.yaml:7: one who reads, step 2: select ssn from customers$/m);
  expect(text).toMatch(/^ {2}- expected deny writes\.unbounded\n {2}\+ got {6}mask labels\.secret$/m);
  expect(text).toMatch(/^ {2}- expected masks .*hash.*\n {2}\+ got {6}masks .*redact/m);
  expect(text).toMatch(/rule labels\.secret: .*\n +policies\/labels\/labels\.rego:\d+$/m);
  expect(text).toMatch(/rule writes\.unbounded did not decide\n +policies\/writes\/writes\.rego:\d+$/m);
});

test("a change of the policy's data fails steps of the fixtures", async () => {
  expect(failures(await run({ labels: { secret: { mask: "hash" } } })).join("\n")).toMatch(
    /- expected masks .*"redact".*\n.*\+ got {6}masks .*"hash"/,
  );
});

test("what a fixture says of data, time, context, approval, messages and diagnostics is compared", async () => {
  const path = fixture(`sessions:
  refused:
    as: { email: eve@example.com }
    target: demo
    opens: allow
  agent:
    as: { email: bot@example.com, groups: [analysts], kind: agent }
    target: { name: demo, database: app }
    data: { approvals: { ttl: 1h } }
    context: { ticket: T-1 }
    at: 2026-01-05T12:00:00Z
    steps:
      - { run: select 1, expect: approve, approval: { from: [dba], count: 1, ttl: 15m } }
      - { run: select 1, novel: false, expect: allow, errors: canonical }
      - { run: select 1, novel: false, expect: allow, says: something else }
      - { run: select 1, novel: false, input: { command.novel: null }, expect: allow }
`);
  const all = failures(await run({}, [path]));
  expect(all.length).toBe(5);
  expect(all[0]).toContain("refused, opening: opens demo\n  - expected allow\n  + got      deny access.target");
  expect(all[1]).toContain('"ttl":"1h"');
  expect(all[2]).toContain('- expected errors "canonical"\n  + got      errors "full"');
  expect(all[3]).toContain('- expected message "something else"');
  expect(all[4]).toContain("+ got      deny shape.input");
});

test("a file that is no fixture is refused with its line, and a folder without any is not passed over", () => {
  expect(() => readFixture(fixture("sessions:\n  a:\n    as: {}\n    target: demo\n    stepz: []\n"))).toThrow(
    /given\.yaml:3: sessions\.a: .*stepz/,
  );
  expect(() => fixturePaths([mkdtempSync(join(tmpdir(), "sallyport-none-"))])).toThrow(/no fixtures/);
  expect(() => fixturePaths(["no/such.yaml"])).toThrow(/no fixture file or folder/);
});

import { expect, test } from "bun:test";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadBundle } from "../../gateway/policy/bundle.ts";
import { Policy } from "../../gateway/policy/policy.ts";
import { defaultBundle } from "./build.ts";
import { policiesFolder, policySources } from "./sources.ts";
import { fixturePaths, readFixture } from "./test/fixture-file.ts";
import { type Difference, runFixture } from "./test/fixture-sessions.ts";
import { resolveOpa } from "./toolchain.ts";

const folder = mkdtempSync(join(tmpdir(), "sallyport-prepared-"));

function dataFile(text: string): string {
  const path = join(folder, `${crypto.randomUUID()}.yaml`);
  writeFileSync(path, text);
  return path;
}

async function policyWith(data: string, bundle = defaultBundle): Promise<Policy> {
  return new Policy(await loadBundle({ bundle, data: dataFile(data) }));
}

async function differences(policy: Policy, yaml?: string): Promise<Difference[]> {
  const found: Difference[] = [];
  for (const path of fixturePaths(yaml === undefined ? [] : [dataFile(yaml)])) {
    const fixture = readFixture(path);
    const sessions = fixture.sessions.filter(({ loads }) => loads);
    for await (const { steps } of runFixture(policy, { ...fixture, sessions })) {
      found.push(...steps.flatMap((step) => step.differences));
    }
  }
  return found;
}

test("a deployment's data takes part in what is prepared", async () => {
  const policy = await policyWith(`
dangerous: { functions: [pg_catalog.upp*], settings_allowed: ["debug_*"], exempt: [analysts] }
labels: { pii: { show_to: [analysts] }, secret: { mask: hash } }
agents: { deny: [read] }
`);
  const steps = `sessions:
  a person:
    as: { email: ann@example.com, groups: [analysts] }
    target: demo
    steps:
      - { run: select upper('a'), expect: deny dangerous.function }
      - { run: select pg_sleep(1), expect: allow }
      - { run: set debug_print_plan = on, expect: allow }
      - { run: set work_mem = '1MB', expect: deny dangerous.setting }
      - { run: select query from pg_stat_activity, expect: allow }
      - { run: select email from customers, expect: allow }
      - { run: select ssn from customers, expect: mask labels.secret, masks: { public.customers.ssn: hash } }
  an agent:
    as: { email: bot@example.com, groups: [analysts], kind: agent }
    target: demo
    steps: [{ run: select id from orders, expect: deny agents.read }]
`;
  expect(await differences(policy, steps)).toEqual([]);
  expect(await differences(await policyWith("{}"), steps)).toHaveLength(8);
});

test("a bundle of opa build with the two entrypoints alone judges every fixture alike", async () => {
  const plain = join(folder, "plain.tar.gz");
  const rego = policySources(policiesFolder).filter((name) => name.endsWith(".rego"));
  const entrypoints = ["-e", "sallyport/session", "-e", "sallyport/command"];
  const line = [resolveOpa(), "build", "-t", "wasm", ...entrypoints, "-o", plain, ...rego, "data.yaml"];
  const built = Bun.spawnSync(line, { cwd: policiesFolder, stderr: "pipe" });
  expect([built.exitCode, built.stderr.toString()]).toEqual([0, ""]);
  const policy = new Policy(await loadBundle({ bundle: plain }));
  expect(policy.bundle.commandPaths).toBeUndefined();
  expect(await differences(policy)).toEqual([]);
}, 60_000);

test("data that nothing can be prepared of is refused when it is loaded", async () => {
  await expect(policyWith("approvers: []")).rejects.toThrow(/its data lacks a section that its rules read/);
  for (const data of ["dangerous: { functions: pg_catalog.lo_* }", "approvals: { ttl: 15 }"]) {
    await expect(policyWith(data)).rejects.toThrow(/\.yaml:1: (?:dangerous\.functions|approvals\.ttl): .*expected/);
  }
});

test("what is prepared cannot be given", async () => {
  const given = "sallyport_prepared: { complete: true, functions: { names: {} } }";
  await expect(policyWith(given)).rejects.toThrow(/sallyport_prepared: is made by the gateway/);
});

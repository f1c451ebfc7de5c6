/** What no order settles is refused by `check` and `build`, which name both sides and where they are. */
import { afterAll, afterEach, expect, test } from "bun:test";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ruleConflicts } from "./conflicts.ts";
import { copyCheckout } from "./test/checkout.ts";

const checkout = copyCheckout();
const policies = join(checkout.folder, "policies");
const dataFile = join(policies, "data.yaml");
const data = readFileSync(dataFile, "utf8");
const hours = join(policies, "hours");

afterEach(() => {
  rmSync(hours, { recursive: true, force: true });
  writeFileSync(dataFile, data);
});
afterAll(() => checkout.remove());

function write(id: string): void {
  mkdirSync(hours, { recursive: true });
  const source = `# METADATA
# title: Working hours
package sallyport.hours

# METADATA
# description: No writes at night.
deny contains {"id": ${id}, "message": "writes are for working hours"} if {
	input.now.hour >= 20
	some class in input.identity.groups
}
`;
  writeFileSync(join(hours, "hours.rego"), source);
}

async function refused(): Promise<string[]> {
  const lines: string[] = [];
  for (const command of ["check", "build"]) {
    const { code, out } = await checkout.policy(command);
    expect([command, code]).toEqual([command, 1]);
    lines.push(out.trim().split("\n").at(-1) ?? "");
  }
  return lines;
}

test("a rule id that another package gives", async () => {
  write('"agents.novel"');
  const message =
    "one rule id in two packages: agents/agents.rego:43 (agents.novel) and hours/hours.rego:7 (agents.novel); begin one with its package's name";
  expect(await refused()).toEqual([message, message]);
}, 60_000);

test("an id that another package may make, and the other way round", () => {
  for (const [id, theirs] of [
    ['"labels.secret"', "labels.…"],
    ['concat("", ["shape.", class])', "shape.input"],
    ['sprintf("rules.%v.x", [class])', "rules.…"],
  ] as const) {
    write(id);
    expect(ruleConflicts(policies).join("\n")).toContain(`(${theirs})`);
  }
});

test("ids that only begin alike, of which the source says nothing, or that one package gives twice, are no conflict", () => {
  for (const id of [
    '"agents_novel"',
    '"shape.inputs"',
    'concat("", [class, ".night"])',
    'concat("", ["hours.", class])',
  ]) {
    write(id);
    expect(ruleConflicts(policies)).toEqual([]);
  }
});

test("two rules of data that hold the same for different people, and two of one name", async () => {
  const rules = (...lines: string[]) =>
    writeFileSync(dataFile, data.replace(/^rules: .*$/m, ["rules:", ...lines].join("\n")));
  const line = data.split("\n").findIndex((one) => one.startsWith("rules:")) + 1;
  const on = "on: { classes: [ddl] }";
  rules(`  a: { ${on}, hold: { from: [dba] } }`, `  b: { ${on}, hold: { from: [security] } }`);
  const both = `data.yaml:${line + 2}: rules.b: holds what rules.a holds, and nobody may approve for both: security here, dba there (rules.a is at data.yaml:${line + 1})`;
  expect(await refused()).toEqual([both, both]);
  rules(`  a: { ${on}, read_only: true }`, `  a: { ${on}, limit: 10 }`);
  const twice = `data.yaml:${line + 2}: is not valid YAML: Map keys must be unique`;
  expect(await refused()).toEqual([twice, twice]);
}, 60_000);

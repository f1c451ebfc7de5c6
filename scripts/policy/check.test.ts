import { afterAll, expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { inputSchemaFile, inputSchemaText } from "./input-schema.ts";
import { policiesFolder } from "./sources.ts";
import { copyCheckout } from "./test/checkout.ts";

const checkout = copyCheckout();
afterAll(() => checkout.remove());
const path = join(checkout.folder, "policies/writes/writes.rego");
const source = readFileSync(path, "utf8");

async function checked(from: string, to: string) {
  expect(source).toContain(from);
  writeFileSync(path, source.replace(from, to));
  return await checkout.policy("check");
}

test("the rules as they are pass", async () => {
  const { code, out } = await checkout.policy("check");
  expect([code, out]).toEqual([0, expect.stringContaining("No violations found")]);
}, 60_000);

test("a path that the input does not have fails, in a statement, a column or the identity", async () => {
  for (const [from, to] of [
    ["statement.bounded", "statement.bouned"],
    ["not statement.bounded", 'some column in statement.columns\n\tcolumn.usage == "write"'],
    ["not statement.bounded", '"dba" in input.identity.group'],
    ["not statement.bounded", "input.now.hours > 20"],
  ] as const) {
    const { code, out } = await checked(from, to);
    expect(code).toBe(1);
    expect(out).toMatch(/writes\/writes\.rego:\d+: rego_type_error: undefined ref: \S*(bouned|usage|group|hours)$/m);
  }
}, 60_000);

test("a path that data does not have, a rule without metadata and another format fail", async () => {
  const misspelt = await checked("not statement.bounded", "not statement.bounded\n\tdata.targetz.demo");
  expect([misspelt.code > 0, misspelt.out]).toEqual([true, expect.stringContaining("unresolved-reference")]);
  const bare = await checked("# METADATA\n# description: A write", "# A write");
  expect([bare.code > 0, bare.out]).toEqual([true, expect.stringContaining("missing-metadata")]);
  const odd = await checked('statement.class == "write"', 'statement.class=="write"');
  expect([odd.code > 0, odd.out]).toEqual([true, expect.stringMatching(/writes\.rego[\s\S]*not formatted/)]);
}, 60_000);

test("the schema in the policies' folder is that of the input's types", () => {
  expect(readFileSync(join(policiesFolder, inputSchemaFile), "utf8")).toBe(inputSchemaText());
});

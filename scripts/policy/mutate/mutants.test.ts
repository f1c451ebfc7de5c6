import { expect, test } from "bun:test";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Mutant, readMutants } from "./mutants.ts";

function mutants(rego: string, data = "{}\n"): Mutant[] {
  const folder = mkdtempSync(join(tmpdir(), "sallyport-mutants-"));
  writeFileSync(join(folder, "p.rego"), rego);
  writeFileSync(join(folder, "data.yaml"), data);
  return readMutants(folder);
}

const changes = (given: readonly Mutant[], rego: string) =>
  Object.fromEntries(given.map(({ key, text }) => [key, text.split("\n").filter((line) => !rego.includes(line))]));

test("a rule is removed, and each of its conditions removed and negated; what binds a name stays", () => {
  const rego = `package p

deny contains {"id": "p.a", "message": "no"} if {
	some one in input.ones
	name := one.name
	name == "x"
	not one.fine
	every part in one.parts { part > 1 }
}
`;
  expect(changes(mutants(rego), rego)).toEqual({
    "p.rego deny p.a: removed": ["\tfalse; some one in input.ones"],
    'p.rego deny p.a: condition removed: name == "x"': ["\ttrue"],
    'p.rego deny p.a: condition negated: name == "x"': ['\tnot name == "x"'],
    "p.rego deny p.a: condition removed: not one.fine": ["\ttrue"],
    "p.rego deny p.a: condition negated: not one.fine": ["\tone.fine"],
    "p.rego deny p.a: condition removed: every part in one.parts { part > 1 }": ["\ttrue"],
    "p.rego deny p.a: condition removed: part > 1": ["\tevery part in one.parts { true }"],
    "p.rego deny p.a: condition negated: part > 1": ["\tevery part in one.parts { not part > 1 }"],
  });
});

test("defaults, branches, constants, comprehensions and elements of sets are mutated, several lines or one", () => {
  const rego = `package p

default kind := "a"

kind := "b" if {
	input.b
} else := "c"

names := {
	"x, }",
	"y",
}

holds if input.a in {1, 2, 3}

list := [one | some one in input.all; one != ""]
`;
  const found = changes(mutants(rego), rego);
  expect(Object.keys(found)).toEqual([
    "p.rego kind: default removed",
    "p.rego kind: removed",
    "p.rego kind: condition removed: input.b",
    "p.rego kind: condition negated: input.b",
    "p.rego else of kind: removed",
    "p.rego names: removed",
    'p.rego names: element removed: "x, }"',
    'p.rego names: element removed: "y"',
    "p.rego holds: removed",
    "p.rego holds: condition removed: input.a in {1, 2, 3}",
    "p.rego holds: condition negated: input.a in {1, 2, 3}",
    "p.rego holds: element removed: 1",
    "p.rego holds: element removed: 2",
    "p.rego holds: element removed: 3",
    "p.rego list: removed",
    'p.rego list: condition removed: one != ""',
    'p.rego list: condition negated: one != ""',
  ]);
  expect(found["p.rego holds: element removed: 2"]).toEqual(["holds if input.a in {1, 3}"]);
  expect(found["p.rego holds: removed"]).toEqual(["holds if { false; input.a in {1, 2, 3} }"]);
  expect(found['p.rego list: condition negated: one != ""']).toEqual([
    'list := [one | some one in input.all; not one != ""]',
  ]);
});

test("data loses each element of a list, and each plain value becomes another, with its line", () => {
  const found = mutants("package p\n", "labels:\n  pii: { mask: partial }\nlist: [a, b]\nttl: 15m\n");
  expect(found.map(({ key, line }) => [key, line])).toEqual([
    ["data.yaml labels.pii.mask: partial changed to hash", 2],
    ["data.yaml list: element removed: a", 3],
    ["data.yaml list: element removed: b", 3],
    ["data.yaml ttl: 15m changed to 16m", 4],
  ]);
});

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

/** Those that take away, and not those that let through more or less. */
const removals = (given: readonly Mutant[]) =>
  given.filter(({ key }) => !/: (first only|last only|any is enough|\S+ increased)/.test(key));
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
  expect(changes(removals(mutants(rego)), rego)).toEqual({
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
  const found = changes(removals(mutants(rego)), rego);
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

test("a quantifier sees the first or the last only, and any is enough where all are meant", () => {
  const rego = `package p

holds if {
	some one in input.ones
	some key, _ in one.parts
	every part in one.all { part.a; part.b }
	not key in one.some
	key in {"x"}
}

list := [one | some one in input.all; one != ""]
`;
  const found = mutants(rego).filter(({ key }) => /first only|last only|any is enough/.test(key));
  const all = "every part in one.all { part.a; part.b }";
  expect(changes(found, rego)).toEqual({
    "p.rego holds: first only: some one in input.ones": [
      "\tsome one in array.slice([one_of | some one_of in input.ones], 0, 1)",
    ],
    "p.rego holds: last only: some one in input.ones": [
      "\tsome one in array.slice([one_of | some one_of in input.ones], count(input.ones) - 1, count(input.ones))",
    ],
    "p.rego holds: first only: some key, _ in one.parts": [
      "\tsome key, _ in object.filter(one.parts, array.slice(sort([one_of | some one_of, _ in one.parts]), 0, 1))",
    ],
    "p.rego holds: last only: some key, _ in one.parts": [
      "\tsome key, _ in object.filter(one.parts, array.slice(sort([one_of | some one_of, _ in one.parts]), count(one.parts) - 1, count(one.parts)))",
    ],
    [`p.rego holds: first only: ${all}`]: [
      "\tevery part in array.slice([one_of | some one_of in one.all], 0, 1) { part.a; part.b }",
    ],
    [`p.rego holds: last only: ${all}`]: [
      "\tevery part in array.slice([one_of | some one_of in one.all], count(one.all) - 1, count(one.all)) { part.a; part.b }",
    ],
    [`p.rego holds: any is enough: ${all}`]: ["\tcount([1 |", "some part in one.all", "]) >= min([1, count(one.all)])"],
    "p.rego list: first only: some one in input.all": [
      'list := [one | some one in array.slice([one_of | some one_of in input.all], 0, 1); one != ""]',
    ],
    "p.rego list: last only: some one in input.all": [
      'list := [one | some one in array.slice([one_of | some one_of in input.all], count(input.all) - 1, count(input.all)); one != ""]',
    ],
    "p.rego holds: first only: not key in one.some": [
      "\tnot key in array.slice([one_of | some one_of in one.some], 0, 1)",
    ],
    "p.rego holds: last only: not key in one.some": [
      "\tnot key in array.slice([one_of | some one_of in one.some], count(one.some) - 1, count(one.some))",
    ],
  });
});

test("a prefix is a shorter one or stands anywhere, a number is greater, a set of known words has one more", () => {
  const rego = `package p

holds if {
	startswith(input.name, "pg_")
	input.uses - {"output", "derived", "order", "write"} == set()
	input.count > -1
	input.all[0]
}
`;
  const found = mutants(rego).filter(({ key }) => !/removed|negated/.test(key));
  expect(changes(found, rego)).toEqual({
    'p.rego holds: anywhere: startswith(input.name, "pg_")': ['\tcontains(input.name, "pg_")'],
    'p.rego holds: prefix shortened: startswith(input.name, "pg_")': ['\tstartswith(input.name, "pg")'],
    "p.rego holds: -1 increased": ["\tinput.count > 0"],
    'p.rego holds: element added: "predicate"': [
      '\tinput.uses - {"output", "derived", "order", "write", "predicate"} == set()',
    ],
  });
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

test("a list of what is let through has one more, a pattern lets through more or stops less", () => {
  const found = mutants(
    "package p\n",
    `targets: { demo: { access: { analysts: [read, write, ddl] } } }
labels: { pii: { show_to: [dba] } }
functions: { allow: [] }
dangerous: { settings_allowed: [jit, enable_*], functions: [pg_catalog.pg_backup_*, "*dblink*", "*.xyz*"] }
`,
  );
  expect(found.map(({ key }) => key).filter((key) => !key.includes("removed"))).toEqual([
    "data.yaml targets.demo.access.analysts: element added: dcl",
    "data.yaml labels.pii.show_to: element added: analysts",
    "data.yaml functions.allow: element added: *",
    "data.yaml dangerous.settings_allowed: jit changed to *jit",
    "data.yaml dangerous.settings_allowed: jit changed to jit*",
    "data.yaml dangerous.settings_allowed: enable_* changed to *enable_*",
    "data.yaml dangerous.settings_allowed: enable_* changed to enable*",
    "data.yaml dangerous.settings_allowed: element added: *",
    "data.yaml dangerous.functions: pg_catalog.pg_backup_* changed to pg_catalog.pg_backup_",
    "data.yaml dangerous.functions: pg_catalog.pg_backup_* changed to pg_catalog.pg_backup_start",
    "data.yaml dangerous.functions: pg_catalog.pg_backup_* changed to pg_catalog.pg_backup_stop",
    "data.yaml dangerous.functions: *dblink* changed to *dblink",
    "data.yaml dangerous.functions: *dblink* changed to public.*dblink*",
    "data.yaml dangerous.functions: *.xyz* changed to *.xyz",
    "data.yaml dangerous.functions: *.xyz* changed to public.xyz*",
  ]);
  expect(found.find(({ key }) => key.endsWith("allow: element added: *"))?.text).toContain('allow: [ "*" ]');
});

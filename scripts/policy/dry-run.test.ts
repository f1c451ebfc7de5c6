/** Commands without a target: the corpus' ideas, judged as in the gateway, names changing as the session goes. */
import { expect, test } from "bun:test";
import { openDryRun } from "./dry-run.ts";
import { locate, readRuleLocations } from "./rule-locations.ts";
import { policiesFolder } from "./sources.ts";
import { catalogOf, identityOf, identitySchema, loadPolicy } from "./subject.ts";

const policy = await loadPolicy({});
const open = (groups: string[], kind = "human") =>
  openDryRun({
    policy,
    identity: identityOf(identitySchema.parse({ email: "ann@example.com", groups, kind })),
    target: { name: "demo", kind: "postgres", database: "app", labels: {} },
    catalog: catalogOf("demo", "."),
  });

test("names of prepared statements, views, search_path and renamed columns are those of the session so far", async () => {
  const run = await open(["analysts", "dba"]);
  const steps = [
    ["select ssn from customers", "mask"],
    ["prepare p as select ssn from customers", "mask"],
    ["execute p", "mask"],
    ["execute q", "deny"],
    ["select email from customer_orders", "mask"],
    ["select lower(ssn) from customers", "deny"],
    ["begin", "allow"],
    ["set search_path = pg_catalog", "allow"],
    ["select name from customers", "deny"],
    ["rollback", "allow"],
    ["select name from customers", "allow"],
    ["alter table customers rename ssn to note", "allow"],
    ["select note from customers", "mask"],
    ["create temp table customers (ssn text)", "allow"],
    ["select ssn from customers", "allow"],
    ["select name from public.customers; drop table orders", "allow"],
    ["select name from", "deny"],
  ] as const;
  const got: string[][] = [];
  for (const [text] of steps) got.push([text, (await run.run({ text })).intent.verdict]);
  expect(got).toEqual(steps.map((step) => [...step]));
});

test("an agent's new kind of command is held, and known once it was approved", async () => {
  const run = await open(["analysts"], "agent");
  const text = "select name from customers where id = 1";
  expect((await run.run({ text })).intent.verdict).toBe("approve");
  expect((await run.run({ text, decided: "approve" })).intent.verdict).toBe("approve");
  expect((await run.run({ text, params: [] })).intent.verdict).toBe("allow");
});

test("nobody without a group opens a session", async () => {
  const run = await open([]);
  expect(run.refused).toContain("access.target");
  expect(run.opened.verdict).toBe("deny");
});

test("each rule that decides is found in the sources, by its own message", async () => {
  const run = await open(["analysts"]);
  const locations = readRuleLocations(policiesFolder);
  for (const text of [
    "select lower(ssn) from customers",
    "copy customers to stdout",
    "delete from customers",
    "select pg_read_file('x')",
    "select ssn from customers",
  ]) {
    const { intent } = await run.run({ text });
    for (const rule of intent.rules) expect(locate(locations, intent.verdict, rule)).toMatch(/^\w+\/\w+\.rego:\d+$/);
  }
});

/** What the offline tools know of a database is what a gateway knows of it. */
import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { CatalogSnapshot } from "../../../gateway/postgres/sql/catalog.ts";
import { openDryRun } from "../dry-run.ts";
import { catalogOf, identityOf, identitySchema, loadPolicy } from "../subject.ts";
import type { SqlCatalog } from "./from-sql.ts";
import { builtInFile, readSnapshot, writeSnapshot } from "./snapshot-file.ts";

const folder = mkdtempSync(join(tmpdir(), "sallyport-catalogs-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const policy = await loadPolicy({});
const demo = readFileSync(join(import.meta.dir, "../../../fixtures/demo/schema.sql"), "utf8");
const rows = `${demo};
  create type pair as (a int, b customers[]);
  create table kept (id int, one public.customers, many customers[], nested pair, plain orders);`;

async function verdicts(catalog: SqlCatalog, texts: readonly string[]) {
  const run = await openDryRun({
    ...{ policy, catalog },
    identity: identityOf(
      identitySchema.parse({ email: "ann@example.com", groups: ["analysts", "dba"], kind: "human" }),
    ),
    target: { name: "demo", kind: "postgres", database: "app", labels: {} },
  });
  const found: [string, string][] = [];
  for (const text of texts) found.push([text, (await run.run({ text })).intent.verdict]);
  return found;
}

const steps: [string, string][] = [
  ["select (one).email from kept", "deny"],
  ["select many[1].email from kept", "deny"],
  ["select (nested).b from kept", "deny"],
  ["select (plain).amount from kept", "allow"],
  ["select id from kept", "allow"],
];

test("a column of rows is labelled in a catalog made of DDL, and in the file of it", async () => {
  const made = catalogOf(rows, ".");
  const texts = steps.map(([text]) => text);
  expect(await verdicts(made, texts)).toEqual(steps);
  const path = join(folder, "catalog.json");
  writeFileSync(path, writeSnapshot(made.catalog.snapshot));
  expect(await verdicts(catalogOf(path, "."), texts)).toEqual(steps);
  const added: [string, string][] = [
    ["alter table orders add column buyer customers", "allow"],
    ["select (buyer).email from orders", "deny"],
  ];
  expect(
    await verdicts(
      catalogOf(path, "."),
      added.map(([text]) => text),
    ),
  ).toEqual(added);
});

test("the file says which types users made, and is read without what an older one lacks", () => {
  const snapshot = { ...readSnapshot(builtInFile), types: ["public.mood"], rowTypes: [{ typeOid: 5, relationOid: 7 }] };
  const path = join(folder, "types.json");
  writeFileSync(path, writeSnapshot(snapshot));
  const known = ({ types, rowTypes }: CatalogSnapshot) => ({ types, rowTypes });
  expect(known(readSnapshot(path))).toEqual({ types: ["public.mood"], rowTypes: [{ typeOid: 5, relationOid: 7 }] });
  expect(known(readSnapshot(builtInFile))).toEqual({ types: [], rowTypes: [] });
});

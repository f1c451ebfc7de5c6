/** The names that a recorded session needs, as DDL: of its own analyses, or of a catalog cut to the relations it used. */
import type { CatalogRelation, CatalogSnapshot } from "../../../gateway/postgres/sql/catalog.ts";
import { addedFunction } from "../../../gateway/postgres/sql/names.ts";
import type { RecordedStep } from "./recorded-session.ts";

const system = new Set(["pg_catalog", "information_schema"]);

function quoted(name: string): string {
  return /^[a-z_][a-z0-9_]*$/.test(name) ? name : `"${name.replaceAll('"', '""')}"`;
}

/** schema and name of each relation that was there before the session made it. */
function usedRelations(
  steps: readonly RecordedStep[],
): Map<string, { schema: string; name: string; columns: Set<string> }> {
  const made = new Set<string>();
  const used = new Map<string, { schema: string; name: string; columns: Set<string> }>();
  const use = (schema: string, name: string) => {
    const key = `${schema}\u0000${name}`;
    const one = used.get(key) ?? { schema, name, columns: new Set<string>() };
    if (!made.has(key) && !system.has(schema) && !schema.startsWith("pg_temp")) used.set(key, one);
    return one;
  };
  for (const { analysis } of steps) {
    for (const { verb, relations, columns } of analysis?.statements ?? []) {
      for (const { schema, name, access } of relations) {
        if (access === "ddl" && verb.startsWith("CREATE") && !used.has(`${schema}\u0000${name}`)) {
          made.add(`${schema}\u0000${name}`);
        }
        use(schema, name);
      }
      for (const { schema, table, column } of columns) use(schema, table).columns.add(column);
    }
  }
  return used;
}

/** Tables with the columns that were used, all of them text, and users' functions that were called. */
export function catalogOfAnalyses(steps: readonly RecordedStep[]): string[] {
  const relations = [...usedRelations(steps).values()];
  const functions = new Set(
    steps.flatMap(({ analysis }) => analysis?.statements.flatMap((one) => one.functions) ?? []),
  );
  const added = [...functions].filter((name) => functions.has(addedFunction(name)));
  const called = [...functions]
    .filter((name) => !system.has(name.split(".", 1)[0] ?? "") && !added.some((one) => addedFunction(one) === name))
    .concat(added);
  const schemas = new Set([
    ...relations.map(({ schema }) => schema),
    ...called.map((name) => name.split(".", 1)[0] ?? "").filter((name) => !system.has(name)),
  ]);
  return [
    ...[...schemas].filter((name) => name !== "public").map((name) => `create schema ${quoted(name)}`),
    ...relations.map(
      ({ schema, name, columns }) =>
        `create table ${quoted(schema)}.${quoted(name)} (${[...columns].map((column) => `${quoted(column)} text`).join(", ")})`,
    ),
    ...called.map(
      (name) => `create function ${name.split(".").map(quoted).join(".")}() returns text language sql as ''`,
    ),
  ];
}

/** As DDL: the relations of a catalog that were used, with all their columns, and what these are made of. */
export function catalogOfSnapshot(snapshot: CatalogSnapshot, steps: readonly RecordedStep[]): string[] {
  const used = usedRelations(steps);
  const byOid = new Map(snapshot.relations.map((one) => [one.oid, one]));
  // In the order of making: what a relation needs comes before it.
  const kept = new Set<CatalogRelation>();
  const visited = new Set<CatalogRelation>();
  const keep = (relation: CatalogRelation) => {
    if (visited.has(relation) || system.has(relation.schema)) return;
    visited.add(relation);
    const { parents, definition } = relation;
    for (const parent of parents.map((oid) => byOid.get(oid))) if (parent) keep(parent);
    for (const other of definition === null ? [] : snapshot.relations) {
      if (definition && new RegExp(`\\b${RegExp.escape(other.name)}\\b`).test(definition)) keep(other);
    }
    kept.add(relation);
  };
  for (const relation of snapshot.relations) {
    if (used.has(`${relation.schema}\u0000${relation.name}`)) keep(relation);
  }
  const analysed = catalogOfAnalyses(steps);
  return [...new Set([...kept].map(({ schema }) => schema).filter((name) => name !== "public"))]
    .map((name) => `create schema ${quoted(name)}`)
    .concat([...kept].map((one) => ddlOf(one, byOid)))
    .concat(analysed.filter((ddl) => ddl.startsWith("create function")));
}

function ddlOf(
  { schema, name, columns, parents, definition }: CatalogRelation,
  byOid: Map<number, CatalogRelation>,
): string {
  const full = `${quoted(schema)}.${quoted(name)}`;
  if (definition !== null) return `create view ${full} as ${definition.trim().replace(/;$/, "")}`;
  const inherited = parents.flatMap((oid) => byOid.get(oid) ?? []);
  const own = columns.filter(
    (column) => !inherited.some((parent) => parent.columns.some((one) => one.name === column.name)),
  );
  const list = own.map((column) => `${quoted(column.name)} text`).join(", ");
  const from = inherited.map((parent) => `${quoted(parent.schema)}.${quoted(parent.name)}`).join(", ");
  return `create table ${full} (${list})${from === "" ? "" : ` inherits (${from})`}`;
}

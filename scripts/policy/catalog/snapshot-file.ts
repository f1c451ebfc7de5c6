/**
 * A catalog as a JSON file: what `policy catalog` writes of a live database, and what every catalog made of SQL starts
 * from (`fixtures/catalogs/postgres.json`, PostgreSQL's own names). Columns are lists, for a file that can be committed.
 */
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { z } from "zod";
import type { CatalogSnapshot } from "../../../gateway/postgres/sql/catalog.ts";

const column = z.tuple([z.int(), z.string(), z.int(), z.int(), z.string().nullable()]);
const relation = z.tuple([
  z.int(),
  z.string(),
  z.string(),
  z.string(),
  z.array(column),
  z.array(z.int()),
  z.string().nullable(),
]);
const shape = z.strictObject({
  searchPath: z.array(z.string()),
  schemas: z.array(z.string()),
  functions: z.record(z.string(), z.array(z.string())),
  addedFunctions: z.array(z.string()).optional(),
  operators: z.array(z.tuple([z.string(), z.string(), z.string()])),
  /** Left out where there are none, and in files that were made before it was known. */
  types: z.array(z.string()).default([]),
  /** type, relation; as above. */
  rowTypes: z.array(z.tuple([z.int(), z.int()])).default([]),
  /** oid, schema, name, kind, columns (attnum, name, type, modifier, generated), parents, definition. */
  relations: z.array(relation),
});

export const builtInFile = join(resolve(import.meta.dir, "../../.."), "fixtures/catalogs/postgres.json");

/** @throws Error with the file's name where it is not one that `writeSnapshot` made */
export function readSnapshot(path: string): CatalogSnapshot {
  let parsed: z.infer<typeof shape>;
  try {
    parsed = shape.parse(JSON.parse(readFileSync(path, "utf8")));
  } catch (cause) {
    throw new Error(`${path}: not a catalog as \`bun run policy catalog\` writes it`, { cause });
  }
  return {
    searchPath: parsed.searchPath,
    schemas: parsed.schemas,
    functions: Object.entries(parsed.functions).flatMap(([schema, names]) => names.map((name) => `${schema}.${name}`)),
    ...(parsed.addedFunctions && { addedFunctions: parsed.addedFunctions }),
    operators: parsed.operators.map(([schema, name, called]) => ({ schema, name, function: called })),
    types: parsed.types,
    rowTypes: parsed.rowTypes.map(([typeOid, relationOid]) => ({ typeOid, relationOid })),
    relations: parsed.relations.map(([oid, schema, name, kind, columns, parents, definition]) => ({
      oid,
      schema,
      name,
      kind,
      columns: columns.map(([attnum, columnName, typeOid, typeModifier, generated]) => ({
        attnum,
        name: columnName,
        typeOid,
        typeModifier,
        generated,
      })),
      parents,
      definition,
    })),
    signature: path,
  };
}

/** One line a relation, sorted, so that two snapshots can be compared. */
export function writeSnapshot(snapshot: CatalogSnapshot): string {
  const functions: Record<string, string[]> = {};
  for (const name of snapshot.functions.toSorted()) {
    const dot = name.indexOf(".");
    functions[name.slice(0, dot)] = [...(functions[name.slice(0, dot)] ?? []), name.slice(dot + 1)];
  }
  const relations = snapshot.relations
    .toSorted((a, b) => (`${a.schema}.${a.name}` < `${b.schema}.${b.name}` ? -1 : 1))
    .map(({ oid, schema, name, kind, columns, parents, definition }) => {
      const listed = columns.map((one) => [one.attnum, one.name, one.typeOid, one.typeModifier, one.generated]);
      return JSON.stringify([oid, schema, name, kind, listed, parents, definition]);
    });
  const operators = snapshot.operators.map(({ schema, name, function: called }) => [schema, name, called]);
  const types = snapshot.types?.toSorted() ?? [];
  const rowTypes = (snapshot.rowTypes ?? [])
    .map(({ typeOid, relationOid }) => [typeOid, relationOid] as const)
    .toSorted(([type, relation], [otherType, otherRelation]) => type - otherType || relation - otherRelation);
  const head = Object.entries({
    searchPath: snapshot.searchPath,
    schemas: snapshot.schemas.toSorted(),
    functions,
    ...(snapshot.addedFunctions?.length && { addedFunctions: snapshot.addedFunctions.toSorted() }),
    operators,
    ...(types.length > 0 && { types }),
    ...(rowTypes.length > 0 && { rowTypes }),
  });
  const fields = head.map(([name, value]) => `"${name}": ${JSON.stringify(value)}`);
  return `{\n${fields.join(",\n")},\n"relations": [\n${relations.join(",\n")}\n]}\n`;
}

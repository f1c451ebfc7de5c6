/** Resolves names of relations, functions and operators through the search path. */
import { type Body, strings, text } from "./ast.ts";
import type { CatalogRelation, NameContext } from "./catalog.ts";
import type { Findings } from "./findings.ts";

export function schemasFor(schema: string, context: NameContext): readonly string[] {
  if (schema === "") return context.searchPath;
  // pg_temp stands for the session's own temporary schema.
  return schema === "pg_temp" ? context.searchPath.filter((name) => name.startsWith("pg_temp")) : [schema];
}

/** Of PostgreSQL's own objects. */
export function isSystemSchema(name: string): boolean {
  return /^(?:pg_(?!temp)|information_schema$)/.test(name);
}

/** Also what information_schema is made of. None has a dot in its name, which a user's schema may have. */
export function isOwnFunction(name: string): boolean {
  return /^(?:pg_catalog\.|information_schema\._pg_)[^.]*$/.test(name);
}

/** How one counts that lies among PostgreSQL's own, and is none of them: its schema vouches for nothing. */
export function addedFunction(name: string): string {
  return `added.${name}`;
}

export function findRelation(rangeVar: Body, context: NameContext): CatalogRelation | undefined {
  const name = text(rangeVar.relname);
  for (const schema of schemasFor(text(rangeVar.schemaname), context)) {
    const relation = context.catalog.relation(schema, name);
    if (relation) return relation;
  }
  return undefined;
}

/** Of a name as a list of strings: table, schema.table or database.schema.table. */
export function findRelationNamed(names: readonly string[], context: NameContext): CatalogRelation | undefined {
  return findRelation({ relname: names.at(-1) ?? "", schemaname: names.at(-2) }, context);
}

export function spelled(rangeVar: Body): string {
  const schema = text(rangeVar.schemaname);
  return schema === "" ? text(rangeVar.relname) : `${schema}.${text(rangeVar.relname)}`;
}

/** Where CREATE puts a relation: as named, or the first schema of the path that takes part in creation. */
export function creationSchema(rangeVar: Body, context: NameContext): string {
  if (rangeVar.relpersistence === "t")
    return context.searchPath.find((name) => name.startsWith("pg_temp")) ?? "pg_temp";
  const schema = text(rangeVar.schemaname);
  if (schema !== "") return schemasFor(schema, context)[0] ?? schema;
  return context.searchPath.find((name) => name !== "pg_catalog" && !name.startsWith("pg_temp")) ?? "";
}

/** Every function the name may mean, over all schemas of the path: which one a call takes depends on types. */
export function findFunctions(names: readonly string[], context: NameContext): string[] {
  const name = names.at(-1) ?? "";
  const schema = names.length > 1 ? (names.at(-2) ?? "") : "";
  return schemasFor(schema, context)
    .filter((candidate) => context.catalog.hasFunction(candidate, name))
    .map((candidate) => `${candidate}.${name}`);
}

/** Counts an operator by its function where users made it. */
export function useOperator(name: unknown, findings: Findings): void {
  const names = strings(name);
  if (names.length > 0) useOperatorNamed(names, findings);
}

export function useOperatorNamed(names: readonly string[], findings: Findings): void {
  const schemas = new Set(schemasFor(names.length > 1 ? (names.at(-2) ?? "") : "", findings.context));
  for (const operator of findings.context.catalog.operators(names.at(-1) ?? "")) {
    if (schemas.has(operator.schema)) findings.calls(operator.function);
  }
}

const typeOids: Readonly<Record<string, number>> = {
  bool: 16,
  bytea: 17,
  name: 19,
  int8: 20,
  int2: 21,
  int4: 23,
  text: 25,
  oid: 26,
  json: 114,
  float4: 700,
  float8: 701,
  bpchar: 1042,
  varchar: 1043,
  date: 1082,
  time: 1083,
  timestamp: 1114,
  timestamptz: 1184,
  interval: 1186,
  numeric: 1700,
  uuid: 2950,
  jsonb: 3802,
};

/** OID of a built-in type without modifiers, or undefined. */
export function plainTypeOid(typeName: Body | undefined, context: NameContext): number | undefined {
  if (typeName === undefined || typeName.arrayBounds !== undefined || typeName.typmods !== undefined) return undefined;
  if (typeName.setof === true) return undefined;
  const names = strings(typeName.names);
  const [first, second] = names;
  if (names.length === 2 && first === "pg_catalog") return typeOids[second ?? ""];
  return names.length === 1 && isBuiltIn(first ?? "", context) ? typeOids[first ?? ""] : undefined;
}

/** A schema before pg_catalog on the path could have a type of that name; of the session's own, all are known. */
function isBuiltIn(type: string, { catalog, searchPath }: NameContext): boolean {
  const isAbsent = (schema: string) =>
    schema.startsWith("pg_temp") && !catalog.hasType(schema, type) && catalog.relation(schema, type) === undefined;
  const found = searchPath.find((schema) => schema === "pg_catalog" || !isAbsent(schema));
  return found === "pg_catalog";
}

/** Whether a call of that name with one argument may be a cast: rows' types are never meant. */
export function namesType(names: readonly string[], { catalog, searchPath }: NameContext): boolean {
  const [name = "", ...more] = names;
  return more.length === 0 && searchPath.some((schema) => catalog.hasType(schema, name));
}
